"""What every verb has beside its own options: loudness, completed values, help in plain words.

Options are made by Typer from the functions here and handed on to the commands of the verbs, so
that a verb's file lists nothing but its own.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
import typer.main
from typer import Option

from nexus.core.log import saying

Words = Iterable[str] | Mapping[str, Any]

# What the list of verbs says about each: the function of that name in the file of that name.
VERBS = {
    "segment": "Segment objects in images, by box or point.",
    "generate": "Find all masks in images and write a dataset of them.",
    "track": "Track objects through videos, by box, point or mask.",
    "evaluate": "Evaluate a model on a dataset, or compare two such runs.",
    "train": "Fine-tune a model on labelled images.",
    "models": "List the models and which are on this machine, or describe one.",
    "fetch": "Fetch weights, before there is no network.",
    "help": "Explain a verb.",
}

_HELP_QUIET = "Say errors alone: no progress, notes or warnings."
_HELP_VERBOSE = "Say also what is loaded, fetched, chosen and skipped, and how long it takes."
_LOUDNESS = "nexus.loudness"
# Types as Typer prints them, in the words of the other options.
_TYPE_WORDS = {"int": "N", "int range": "N", "float": "X", "float range": "X", "path": "PATH"}
_TYPE = re.compile(r" <([^<>]*)>$")

_DEVICES = ("cpu", "cuda", "mps")
_DTYPES = ("float32", "bfloat16", "float16")
_PROTOCOLS = ("box", "click", "clicks", "medical-box", "detections", "vos")


def _table(module: str, name: str) -> Callable[[], Words]:
    """Return what looks up a table when it is needed."""
    return lambda: getattr(importlib.import_module(module), name)


_models = _table("nexus.models.registry", "MODELS")
# The values of an option, by its name or by verb and name; metavars stand for arguments.
_VALUES: dict[str, Callable[[], Words]] = {
    "--model": _models,
    "--device": lambda: _DEVICES,
    "--dtype": lambda: _DTYPES,
    "generate --format": _table("nexus.data.formats.writers", "FORMATS"),
    "generate --pictures": lambda: ("copy", "link", "none"),
    "track --format": lambda: ("png,jsonl", "png", "jsonl"),
    "evaluate --dataset": _table("nexus.data.truth.readers", "READERS"),
    "evaluate --protocol": lambda: _PROTOCOLS,
    "evaluate --multimask": lambda: ("auto", "single", "best"),
    "compare --by": lambda: ("image", "object", "group"),
    "compare --method": lambda: ("percentile", "basic", "BCa"),
    "train --recipe": lambda: ("points", "domain"),
    "models NAME": _models,
    "fetch NAME": _models,
    "help VERB": lambda: VERBS,
}


def finished(command: Any, verb: str) -> Any:
    """Return a command with what every verb has; its own verbs are finished as well."""
    for param in command.params:
        key = param.opts[-1] if param.opts and param.opts[-1].startswith("-") else param.metavar
        values = _VALUES.get(f"{verb} {key}") or _VALUES.get(str(key))
        if values is not None:
            param.shell_complete = completer(values)
        _say_plainly(param)
    command.params += _params_of(_loudness)
    for name, inner in getattr(command, "commands", {}).items():
        finished(inner, name)
    return command


def completer(values: Callable[[], Words]) -> Any:
    """Return what completes a word to one of the values; what they mean is shown beside them.

    Of a table, the meaning is a text, or the description of an entry.
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        table = values()
        meanings = table if isinstance(table, Mapping) else dict.fromkeys(table, "")
        return [
            (word, _meaning(meaning))
            for word, meaning in meanings.items()
            if word.startswith(incomplete)
        ]

    option: Any = Option("", autocompletion=complete)

    def donor(word: str = option) -> None:
        pass

    return _params_of(donor)[0].shell_complete


def _meaning(entry: Any) -> str:
    return entry if isinstance(entry, str) else str(getattr(entry, "description", ""))


def _params_of(function: Callable[..., None]) -> list[Any]:
    """Return the parameters that Typer makes of a function's."""
    donor = typer.Typer(add_completion=False, rich_markup_mode=None)
    donor.command()(function)
    return [*typer.main.get_command(donor).params]


def _be_quiet(ctx: typer.Context, wanted: bool) -> None:
    _be(ctx, "quiet", wanted)


def _be_verbose(ctx: typer.Context, wanted: bool) -> None:
    _be(ctx, "debug", wanted)


def _be(ctx: typer.Context, word: str, wanted: bool) -> None:
    """Say as much as `word` until the command is over, wherever its option stood."""
    if not wanted or ctx.resilient_parsing:
        return
    root = ctx.find_root()
    chosen = root.meta.get(_LOUDNESS)
    if chosen not in (None, word):
        ctx.fail("expected --quiet or --verbose, got both")
    if chosen is None:
        root.meta[_LOUDNESS] = word
        root.with_resource(saying(word))


def _loudness(
    quiet: Annotated[
        bool,
        Option("--quiet", "-q", help=_HELP_QUIET, callback=_be_quiet, expose_value=False),
    ] = False,
    verbose: Annotated[
        bool,
        Option("--verbose", "-v", help=_HELP_VERBOSE, callback=_be_verbose, expose_value=False),
    ] = False,
) -> None:
    """Hold the options that all verbs share."""


def _say_plainly(param: Any) -> None:
    """Keep Python's types out of what the help says of a parameter."""
    record, pieces = param.get_help_record, param.get_usage_pieces

    def plain_record(ctx: Any) -> Any:
        found = record(ctx)
        if found is None:
            return None
        names, text = found
        return _TYPE.sub(replacement, names), text

    def replacement(match: re.Match[str]) -> str:
        if param.param_type_name == "argument":
            return ""
        return " " + _TYPE_WORDS.get(match[1], "TEXT")

    def plain_pieces(ctx: Any) -> Any:
        return [re.sub(r"\{(.+)\}", r"\1", piece) for piece in pieces(ctx)]

    param.get_help_record, param.get_usage_pieces = plain_record, plain_pieces
