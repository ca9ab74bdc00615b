"""`nexus help`: what a verb does and takes, as its --help says it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument

from nexus.core.errors import InputError

_HELP_VERB = "A verb, and a verb of its own, as in evaluate compare; none for the list."


def help(
    context: typer.Context,
    verb: Annotated[list[str] | None, Argument(metavar="VERB", help=_HELP_VERB)] = None,
) -> None:
    """Explain a verb: the same as `nexus VERB --help`."""
    shown: Any = context.find_root()
    for word in verb or []:
        if not hasattr(shown.command, "resolve_command"):
            raise InputError(
                f"expected no more after {shown.info_name!r}, which has no verbs of its own, "
                f"got {word!r}"
            )
        _, command, _ = shown.command.resolve_command(shown, [word])
        shown = type(shown)(command, info_name=word, parent=shown)
    typer.echo(shown.get_help())
