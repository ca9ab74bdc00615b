"""Write docs/api.md, the listing of every public name: python -m tools.api_listing.

A test compares the file with what this program would write, so that no public name changes,
appears or goes away without showing in the diff of a file people read.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LISTING = ROOT / "docs" / "api.md"

MODULES = (
    "nexus",
    "nexus.models.cv",
    "nexus.core.types",
    "nexus.core.errors",
    "nexus.core.weights.hub",
    "nexus.models.policy",
    "nexus.models.registry",
    "nexus.predict.oneshot",
    "nexus.predict.automatic",
    "nexus.predict.batched",
    "nexus.predict.dataset",
    "nexus.predict.tracking",
    "nexus.predict.video",
    "nexus.predict.parallel",
    "nexus.predict.multiscale",
    "nexus.predict.tiled",
    "nexus.data.images",
    "nexus.data.video",
    "nexus.data.tracks",
    "nexus.data.prompt_files",
    "nexus.data.formats.coco",
    "nexus.data.truth.labelled",
    "nexus.data.truth",
    "nexus.data.clicks.sampling",
    "nexus.data.clicks.game",
    "nexus.data.augment.geometry",
    "nexus.data.augment.sample",
    "nexus.data.augment.transforms",
    "nexus.eval.metrics",
    "nexus.eval.run",
    "nexus.eval.settings",
    "nexus.eval.vos",
    "nexus.eval.compare",
    "nexus.train.config",
    "nexus.train.config_file",
    "nexus.train.loop",
    "nexus.train.losses",
    "nexus.train.freezing",
    "nexus.train.lora",
    "nexus.train.weights",
    "nexus.train.video",
    "nexus.ops",
)
"""The public rooms and files; of a package that names nothing itself, every file below it."""

_ROOMS = ("nexus.ops", "nexus.train.video")  # listed file by file

_LONG_DEFAULT = 60  # characters; repr of a policy is longer

_HEADER = """\
# Public names

Made by `python -m tools.api_listing`; a test keeps it true. What is not listed here, or starts
with an underscore, may change without notice. Shapes, frames, units and errors are in the
docstrings.
"""


def listing() -> str:
    """Return the text of docs/api.md."""
    sections = [_HEADER]
    for name in MODULES:
        for module in _files_of(importlib.import_module(name)):
            entries = [
                entry
                for public in _public_names(module)
                for entry in _entries(public, getattr(module, public), module)
            ]
            if entries:
                sections.append(f"## {module.__name__}\n\n" + "\n".join(entries) + "\n")
    return "\n".join(sections)


def _files_of(module: ModuleType) -> Iterator[ModuleType]:
    """Yield a module; or, for a package that exports nothing itself, its modules."""
    if _public_names(module) or not hasattr(module, "__path__"):
        yield module
        return
    for info in sorted(pkgutil.iter_modules(module.__path__), key=lambda item: item.name):
        yield importlib.import_module(f"{module.__name__}.{info.name}")


def _public_names(module: ModuleType) -> list[str]:
    """Return `__all__`, or what the module's own source defines or hands on, by name.

    A name is handed on by importing it as itself, as type checkers see it too.
    """
    declared = getattr(module, "__all__", None)
    if declared is None:
        declared = []
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                declared.append(node.name)
            elif isinstance(node, ast.ImportFrom):
                declared += [alias.name for alias in node.names if alias.asname == alias.name]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                declared += [item.id for item in targets if isinstance(item, ast.Name)]
    return sorted((name for name in declared if not name.startswith("_")), key=str.lower)


def _entries(name: str, value: Any, module: ModuleType) -> Iterator[str]:
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        yield f"- `{name}`"
    elif value.__module__ != module.__name__ and _is_listed_elsewhere(value, module):
        yield f"- `{name}`: `{value.__module__}.{value.__qualname__}`"
    elif inspect.isfunction(value):
        yield f"- `{name}{_signature(value)}`"
    else:
        yield f"- class `{name}{_bases(value)}`" + (
            "" if issubclass(value, BaseException) else f": `{name}{_signature(value)}`"
        )
        yield from _members(name, value, module)


def _is_listed_elsewhere(value: Any, module: ModuleType) -> bool:
    """Tell whether a name that `module` hands on is described under another public module."""
    home = value.__module__
    return module.__name__ == "nexus" or home in MODULES or home.rpartition(".")[0] in _ROOMS


def _bases(cls: type) -> str:
    bases = [base.__name__ for base in cls.__bases__ if base is not object]
    return f"({', '.join(bases)})" if bases else ""


def _members(name: str, cls: type, module: ModuleType) -> Iterator[str]:
    """Yield the public methods and properties of `cls` that no base listed beside it has."""
    members: dict[str, Any] = {}
    listed = _public_names(module)
    for base in reversed(cls.__mro__):
        beside = base.__name__ in listed and getattr(module, base.__name__) is base
        if base is not cls and beside:
            members.clear()
        elif base.__module__.startswith("nexus."):
            members.update(vars(base))
    fields = {field.name for field in dataclasses.fields(cls)} if _is_dataclass(cls) else set()
    for member, value in sorted(members.items()):
        if member.startswith("_") or member in fields:
            continue
        if isinstance(value, property):
            yield f"  - `{name}.{member}`"
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            yield f"  - `{name}.{member}{_signature(getattr(cls, member))}`"


def _is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls)


def _signature(function: Any) -> str:
    """Return the signature, without the quotes of postponed annotations and long defaults."""
    signature = inspect.signature(function)
    parameters = [
        p.replace(default=...) if len(repr(p.default)) > _LONG_DEFAULT else p
        for p in signature.parameters.values()
    ]
    result = inspect.Signature.empty if inspect.isclass(function) else signature.return_annotation
    text = str(signature.replace(parameters=parameters, return_annotation=result))
    return re.sub(r"(: |-> )(['\"])(.*?)\2", r"\1\3", text.replace("Ellipsis", "..."))


if __name__ == "__main__":
    LISTING.write_text(listing(), "utf-8")
    print(LISTING.relative_to(ROOT))
