"""Arguments that errors name, as options of the command: `overwrite=True` is --overwrite here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_ARGUMENT = re.compile(r"`([A-Za-z_][\w.]*)(?:=([^`\n]*))?`")
# Arguments of Python whose option has another name.
_OTHER_NAMES = {
    "min_stability_score": "min_stability",
    "categories": "category",
    "formats": "format",
    "variant": "model",
    "protocols": "protocol",
    "roots": "root",
}
_NO_LIMIT = {"max_pixels": "0"}
# Calls in Python for which the command has options.
_LOADING = re.compile(r"`from_checkpoint\((.+?), variant=\.\.\.\)`")
_SETTINGS = "--set"
_QUOTES = "'\""


def as_options(command: Any) -> Callable[[str], str]:
    """Return what writes the arguments in a text as options of a verb.

    A name that the verb has as an option is that option; a value after it stays, without quotes.
    Of a verb with --set, other names with a value are settings. All else stays as it is.

    >>> from types import SimpleNamespace as Its
    >>> given = Its(name="overwrite", opts=["--overwrite"], secondary_opts=[])
    >>> as_options(Its(params=[given]))("or `overwrite=True`; not `load_model(name)`")
    'or --overwrite; not `load_model(name)`'
    """
    options = {param.name: param for each in _all(command) for param in each.params}
    settings = next(
        (param.name for param in options.values() if _SETTINGS in param.opts), "no settings"
    )

    def spelled(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        param = options.get(_OTHER_NAMES.get(name, name))
        if param is not None and param.name != settings:
            return _option(param, name, value)
        if value is not None and settings in options:
            plain = "null" if value == "None" else value.strip(_QUOTES)
            return f"{_SETTINGS} {name}={plain}"
        return found[0]

    def spelled_all(text: str) -> str:
        if "checkpoint" in options:
            text = _LOADING.sub(r"--model NAME --checkpoint \1", text)
        return _ARGUMENT.sub(spelled, text)

    return spelled_all


def _all(command: Any) -> list[Any]:
    """Return a command and, where it is a group, the commands in it."""
    return [*getattr(command, "commands", {}).values(), command]


def _option(param: Any, name: str, value: str | None) -> str:
    """Return an option as it is typed."""
    if not param.opts[0].startswith("-"):
        return str(param.metavar or param.name).upper()  # an argument of the command
    option = max(param.opts, key=len)
    if value is None or value == "True":
        return str(option)
    if value == "False":
        return str(max(param.secondary_opts, key=len)) if param.secondary_opts else f"no {option}"
    if value == "None":
        return f"{option} {_NO_LIMIT[name]}" if name in _NO_LIMIT else f"no {option}"
    return f"{option} {value.strip(_QUOTES)}"
