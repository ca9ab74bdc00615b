"""Read the YAML of a run into its dataclasses; a mistake is named with its line."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import types
import typing
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from nexus.core.choices import did_you_mean, entry
from nexus.core.errors import InputError, shown
from nexus.core.files import as_path
from nexus.core.packages import optional_module
from nexus.train.config import RunSettings, TrainingSettings, check_range
from nexus.train.video.config import VideoTrainingSettings

_T = TypeVar("_T")
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TASK = "task"
_TASKS = {"images": TrainingSettings, "video": VideoTrainingSettings}
_NULLS = ("", "null", "~", "none")


class SettingsNotFoundError(InputError, FileNotFoundError):
    """A YAML file of a run is given by a path and there is no such file."""


def read_settings(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunSettings:
    """Read the YAML file of a run on images, or with `task: video` on videos.

    Args:
        path: The file.
        overrides: `key=value` with dots between blocks and counts in lists, such as
            `optimizer.steps=100` or `data.sets.0.folder=kvasir`; each replaces what the file says.

    Returns:
        `TrainingSettings` or `VideoTrainingSettings`.

    Raises:
        SettingsNotFoundError: There is no such file.
        InputError: An unknown key, a value of the wrong kind or range, or no YAML; the message
            begins with the file and line.
        MissingDependencyError: PyYAML is not installed.
    """
    source = as_path(path, "a YAML file")
    if not source.is_file():
        got = "a folder" if source.is_dir() else "no such file"
        raise SettingsNotFoundError(
            f"expected a YAML file of a training run at {os.fspath(path)!r}, got {got}"
        )
    try:
        text = source.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{source.name}, line {line}: expected text in UTF-8, got the byte "
            f"0x{error.object[error.start]:02x}",
            hint="save the file in UTF-8; iconv -f latin1 -t utf8 OLD > NEW does so",
        ) from error
    return parse_settings(text, source.name, overrides)


def parse_settings(text: str, name: str, overrides: Sequence[str] = ()) -> RunSettings:
    """Read YAML text; `name` stands in messages. As `read_settings` otherwise."""
    root = _compose(text, name)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f"expected --set KEY=VALUE, got {override!r}")
        _put(root, key.strip().split("."), _compose(value, f"--set {override}"), override)
    task = "images"
    if root.id == "mapping":
        for key, value in root.value:
            if key.value == _TASK and (value.id != "scalar" or value.value not in _TASKS):
                raise _wrong(value, f"{_TASK} to be one of {', '.join(_TASKS)}")
            task = value.value if key.value == _TASK else task
        root.value = [pair for pair in root.value if pair[0].value != _TASK]
    return _dataclass(_TASKS[task], root)


def recipe_file(name: str) -> Path:
    """Return the file of a recipe that comes with Nexus.

    Raises:
        InputError: There is none of that name.
    """
    folder = Path(str(resources.files("nexus.train"))) / "recipes"
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return entry(files, name, "a recipe")


def _yaml() -> Any:
    install = '"nexus-segmentation[train]"'
    return optional_module("yaml", "(PyYAML) for reading a training run", install)


def _compose(text: str, name: str) -> Any:
    """Return the node tree of YAML text, which knows its lines."""
    yaml = _yaml()
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:  # a control character
        told = " ".join(str(error).split())
        raise InputError(f"{name}: expected YAML, got {told}") from error
    loader.name = name
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{_place(mark)}: expected YAML, got {error.problem}") from error
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise InputError(f"{name}: expected YAML, got {told}") from error
    finally:
        loader.dispose()
    if node is None:
        node = yaml.ScalarNode("tag:yaml.org,2002:null", "", loader.get_mark(), loader.get_mark())
    return node


def _put(node: Any, path: list[str], value: Any, override: str) -> Any:
    """Return a node in which one value is replaced or added."""
    if not path:
        return value
    step, *below = path
    if node.id == "sequence":
        if not step.isdecimal() or int(step) >= len(node.value):
            raise InputError(
                f"--set {override}: expected a count from 0 to {len(node.value) - 1}, got {step!r}"
            )
        node.value[int(step)] = _put(node.value[int(step)], below, value, override)
        return node
    if node.id != "mapping":
        raise InputError(f"--set {override}: expected a block before {step!r}, got a value")
    yaml, marks = _yaml(), (value.start_mark, value.end_mark)
    added = yaml.ScalarNode("tag:yaml.org,2002:str", step, *marks), yaml.MappingNode("", [], *marks)
    names = [key.value for key, _ in node.value]
    place = names.index(step) if step in names else len(names)
    key, child = (*node.value, added)[place]
    # What stands in the file keeps its line there; what the option gives is told by the option.
    node.value[place : place + 1] = [
        (key if below else added[0], _put(child, below, value, override))
    ]
    return node


def _place(mark: Any) -> str:
    """Say where a mark is: file and line, or the option of the command."""
    return mark.name if mark.name.startswith("--set ") else f"{mark.name}, line {mark.line + 1}"


def _wrong(node: Any, expected: str) -> InputError:
    got = shown(node.value) if isinstance(node.value, str) else f"a {node.id}"
    return InputError(f"{_place(node.start_mark)}: expected {expected}, got {got}")


def _dataclass(cls: type[_T], node: Any) -> _T:
    """Fill a dataclass from a mapping."""
    fields = {known.name: known for known in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if node.id != "mapping":
        raise _wrong(node, f"a block with keys such as {next(iter(fields))!r}")
    kinds = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in node.value:
        if key.id != "scalar" or key.value not in fields:
            raise _unknown_key(key, list(fields))
        if key.value in values:
            raise InputError(f"{_place(key.start_mark)}: expected {key.value!r} once, got it twice")
        values[key.value] = _value(kinds[key.value], value, key.value)
        _at(key.start_mark, check_range, fields[key.value], values[key.value])
    missing = dataclasses.MISSING
    for name, known in fields.items():
        made = known.default is not missing or known.default_factory is not missing
        if name not in values and (not made or known.metadata.get("required")):
            raise InputError(f"{_place(node.start_mark)}: expected the key {name!r}, got none")
    return typing.cast(_T, _at(node.start_mark, cls, **values))


def _at(mark: Any, make: Any, *arguments: Any, **named: Any) -> Any:
    """Call, and put the place in front of what is wrong."""
    try:
        return make(*arguments, **named)
    except InputError as error:
        raise InputError(f"{_place(mark)}: {error.message}", error.hint) from error


def _unknown_key(key: Any, names: list[str]) -> InputError:
    word = key.value if key.id == "scalar" else f"a {key.id}"
    meant = did_you_mean(word, names)
    return InputError(
        f"{_place(key.start_mark)}: unknown key {shown(word)}" + (f"; {meant}" if meant else ""),
        hint="expected one of " + ", ".join(names),
    )


def _value(kind: Any, node: Any, name: str) -> Any:
    """Read a node as the type of its field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if node.id == "scalar" and node.style is None and node.value.lower() in _NULLS:
            return None
        return _value(next(kind for kind in arguments if kind is not type(None)), node, name)
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type, kind), node)
    if origin is tuple:
        if node.id != "sequence":
            raise _wrong(node, f"a list for {name}")
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(node.value)
        if len(node.value) != len(arguments):
            raise _wrong(node, f"{len(arguments)} values for {name}")
        items = zip(arguments, node.value, strict=True)
        return tuple(_value(kind, item, name) for kind, item in items)
    if origin is dict:
        if node.id != "mapping":
            raise _wrong(node, f"a block for {name}")
        pairs = {}
        for key, value in node.value:
            if key.id != "scalar" or key.value not in typing.get_args(arguments[0]):
                raise _unknown_key(key, list(typing.get_args(arguments[0])))
            pairs[key.value] = _value(arguments[1], value, key.value)
        return pairs
    if node.id != "scalar":
        raise _wrong(node, f"one value for {name}")
    if origin is typing.Literal:
        if node.value not in arguments:
            raise _wrong(node, f"{name} to be one of {', '.join(arguments)}")
        return node.value
    return _scalar(kind, node, name)


def _scalar(kind: Any, node: Any, name: str) -> Any:
    """Read a number, a word or a truth; a number may not stand in quotes."""
    text = node.value
    if kind is str:
        return text
    if node.style is None and kind is bool and text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    if node.style is None and kind is not bool:
        with contextlib.suppress(ValueError, OverflowError):
            number = kind(text.replace("_", ""))
            if math.isfinite(number):
                return number
    raise _wrong(node, f"{_WORDS[kind]} for {name}")
