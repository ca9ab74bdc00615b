"""What importing the package loads, and which packages it needs at all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "PIL", "huggingface_hub", "transformers")
IMPORT_NAMES = {
    "pillow": "PIL",
    "huggingface-hub": "huggingface_hub",
    "pyyaml": "yaml",
    "typing-extensions": "typing_extensions",
}


def loaded_by(code: str) -> set[str]:
    """Return the modules a fresh interpreter has after `code`."""
    show = "import sys; print('modules:', *sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", f"try:\n    {code}\nfinally:\n    {show}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("modules:")]
    if "Traceback" in result.stderr:
        raise RuntimeError(result.stderr)
    return set(line.split()[1:])


def modules_of(*rooms: str) -> list[str]:
    """Return the dotted names of all files in `rooms`."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in rooms
        for path in sorted((ROOT / "nexus" / room).rglob("*.py"))
        if path.stem != "__init__"
    ]


def test_import_nexus_is_light() -> None:
    """`import nexus` loads neither torch nor numpy nor Pillow."""
    assert loaded_by("import nexus").isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["segment", "--help"]])
def test_the_command_answers_without_torch(arguments: list[str]) -> None:
    """`nexus --help`, `nexus segment --help` and `nexus --version` load nothing heavy."""
    code = f"import sys; sys.argv = ['nexus', *{arguments}]; "
    loaded = loaded_by(code + "from nexus.cli.main import main; main()")

    assert loaded.isdisjoint(HEAVY)
    assert "nexus.cli.main" in loaded


def test_light_rooms_do_not_import_torch() -> None:
    """No file of core, data and cli, nor the table of models, needs torch to be imported."""
    names = [*modules_of("core", "data", "cli"), "nexus.ops.rle", "nexus.models.registry"]
    loaded = loaded_by(f"import {', '.join(names)}")

    assert "torch" not in loaded
    assert set(names) <= loaded


def imports_of(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the foreign top-level packages that nodes import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"nexus"}


def names_of(requirements: list[str]) -> set[str]:
    """Return what requirements are called in an import."""
    names = {re.split(r"[\[<>=!~; ]", item, maxsplit=1)[0] for item in requirements}
    return {IMPORT_NAMES.get(name, name) for name in names}


def test_only_declared_dependencies_are_imported() -> None:
    """At its top a file imports dependencies only; an extra's packages inside functions only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core = names_of(project["dependencies"])
    extras = project["optional-dependencies"]
    soft = names_of([item for name in extras if name != "dev" for item in extras[name]])
    at_top, anywhere = set(), set()
    for path in (ROOT / "nexus").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        at_top |= imports_of(tree.body)
        anywhere |= imports_of(ast.walk(tree))

    assert at_top - core == set()
    assert anywhere - core - soft == set()
