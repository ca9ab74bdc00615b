"""Rules of the house that a program can check: what is in the files, and what is not."""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST_FILE = 1_000_000
ROOMS_WITHOUT_MODULE = {"parity", "repo"}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".cfg", ".yml", ".yaml", ""}
# Roots that exist on one machine only; written in pieces, or this file would break its own rule.
MACHINE_PATHS = re.compile(
    r"(?<![\w.~}])/" + r"(?:home|Users|root|work|opt|mnt|srv|tmp)" + r"/(?!\.\.\.)\w"
)


def repository_files() -> list[Path]:
    """Return the files git tracks or would add; outside a clone, those .gitignore lets pass."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()]
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(
                fnmatch.fnmatch(part, pattern)
                for part in path.relative_to(ROOT).parts
                for pattern in [".git", *ignored]
            )
        ]
    return [path for path in paths if path.is_file()]


def library_files() -> list[Path]:
    """Return the Python files of the package."""
    return sorted((ROOT / "nexus").rglob("*.py"))


def files_of_tests() -> list[Path]:
    """Return the test files."""
    return sorted((ROOT / "tests").rglob("test_*.py"))


def places(path: Path, nodes: list[ast.stmt | ast.expr | ast.ExceptHandler]) -> list[str]:
    """Name the places of nodes."""
    return [f"{path.relative_to(ROOT).as_posix()}:{node.lineno}" for node in nodes]


def test_no_file_names_one_machine() -> None:
    """No text file holds an absolute path of a developer's machine."""
    found = []
    for path in repository_files():
        if path.suffix in TEXT:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if MACHINE_PATHS.search(line):
                    found.append(f"{path.relative_to(ROOT).as_posix()}:{number}: {line.strip()}")

    assert found == []


def test_no_file_is_large() -> None:
    """No file of the repository is over 1 MB; weights and recordings live elsewhere."""
    large = [str(path) for path in repository_files() if path.stat().st_size > LARGEST_FILE]

    assert large == []


def test_the_library_does_not_assert() -> None:
    """Wrong input raises an error of the tree; `assert` vanishes under `python -O`."""
    found = []
    for path in library_files():
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        found += places(path, [node for node in nodes if isinstance(node, ast.Assert)])

    assert found == []


def test_the_library_never_catches_everything() -> None:
    """There is no bare `except:`."""
    found = []
    for path in library_files():
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        found += places(
            path,
            [node for node in nodes if isinstance(node, ast.ExceptHandler) and node.type is None],
        )

    assert found == []


def test_the_library_prints_to_stdout_in_cli_only() -> None:
    """Outside `nexus/cli`, a `print` says where it prints."""
    found = []
    for path in library_files():
        if path.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id == "print" and "file" not in {k.arg for k in node.keywords}:
                found += places(path, [node])

    assert found == []


def test_nothing_is_left_to_do() -> None:
    """No file has an open reminder in it."""
    reminder = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    found = [
        f"{path.relative_to(ROOT).as_posix()}"
        for path in repository_files()
        if path.suffix in {".py", ".md", ".toml"} and reminder.search(path.read_text("utf-8"))
    ]

    assert found == []


@pytest.mark.parametrize(
    "path", files_of_tests(), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_every_test_states_its_fact(path: Path) -> None:
    """Each test has a docstring whose first line is a sentence."""
    missing = [
        f"{node.name}: {ast.get_docstring(node)}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not (ast.get_docstring(node) or "").partition("\n")[0].endswith(".")
    ]

    assert missing == []


def test_tests_mirror_the_package() -> None:
    """tests/<room>/test_<file>.py tests nexus/<room>/<file>.py; two folders are of their own."""
    strays = []
    for path in files_of_tests():
        room = path.relative_to(ROOT / "tests").parts[0]
        module = path.name.removeprefix("test_")
        if room not in ROOMS_WITHOUT_MODULE and not [
            *(ROOT / "nexus" / room).rglob(module),
            *(ROOT / "nexus" / room).rglob(f"{path.stem.removeprefix('test_')}/__init__.py"),
        ]:
            strays.append(path.relative_to(ROOT).as_posix())

    assert strays == []


def test_tests_are_no_package() -> None:
    """Test folders have no `__init__.py`, as `--import-mode=importlib` wants."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    """CHANGELOG.md is a Keep-a-Changelog file: Unreleased first, only its kinds of change."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[([^]]+)\]", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))

    assert versions[0] == "Unreleased"
    assert kinds
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_licence_is_whole() -> None:
    """LICENSE is the full text of the licence pyproject.toml names."""
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
