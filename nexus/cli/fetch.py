"""`nexus fetch`: weights onto this machine, before there is no network."""

from __future__ import annotations

from json import dumps
from typing import Annotated, Any

import typer
from typer import Argument, Option

from nexus.cli.models import file_size
from nexus.cli.options import note
from nexus.core.errors import InputError, WeightsError
from nexus.core.log import is_quiet
from nexus.core.weights.hub import cached
from nexus.core.weights.hub import fetch as fetch_file
from nexus.core.words import counted
from nexus.models.registry import MODELS, model_spec

_HELP_ALL = "Every model of the table; --dry-run says how much that is."
_HELP_DRY = "Say what is there and what would be fetched; fetch nothing."


def fetch(
    name: Annotated[list[str] | None, Argument(metavar="NAME", help="Names of models.")] = None,
    every: Annotated[bool, Option("--all", help=_HELP_ALL)] = False,
    dry_run: Annotated[bool, Option("--dry-run", help=_HELP_DRY)] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of paths.")] = False,
) -> None:
    """Fetch weights, so that they are there when there is no network.

    Size and digest of each file are verified, of those that are there already too. The paths go to
    stdout, one a line. A model whose weights cannot be had is reported on stderr, the others are
    fetched, and the exit code is 3.
    """
    if every == bool(name):
        got = "both" if every else "neither"
        raise InputError(
            f"expected names of models or --all, got {got}",
            hint="nexus models lists the names",
        )
    names = [*MODELS] if every else [*dict.fromkeys(name or [])]
    for each in names:  # a wrong name is said before anything is fetched
        model_spec(each)
    records = [_fetched(each, dry_run, show_path=not as_json) for each in names]
    if as_json:
        typer.echo(dumps(records, indent=2))
    if dry_run:
        missing = [MODELS[each["name"]].file.size or 0 for each in records if not each["path"]]
        note(f"{counted(len(missing), 'file')} to fetch, {file_size(sum(missing))}")
    if any(record["error"] for record in records):
        raise typer.Exit(3)


def _fetched(name: str, dry_run: bool, show_path: bool) -> dict[str, Any]:
    """Fetch the weights of one model, say what came of it, and return that."""
    file = MODELS[name].file
    path = problem = None
    try:
        path = cached(file)
        was_there = path is not None
        if path is None and not dry_run:
            path = fetch_file(file, progress=not is_quiet())
    except (WeightsError, OSError) as error:
        problem, was_there = error, False
        typer.echo(f"error: {name}: {error}", err=True)
    else:
        if was_there:
            note(f"{name} is there already, and good")
        elif dry_run:
            note(f"{name} is not there")
    if path is not None and show_path:
        typer.echo(str(path))
    message = None if problem is None else getattr(problem, "message", str(problem))
    return {
        "name": name,
        "path": path and str(path),
        "was_there": was_there,
        "error": message,
    }
