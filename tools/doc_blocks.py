"""Find the code blocks and the commands of Markdown files, for the tests that try them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        path: The file.
        line: Number of its first line of code, from 1.
        language: First word after the fence, or an empty string.
        tags: The other words, e.g. `no-run`.
        code: What is inside.
    """

    path: Path
    line: int
    language: str
    tags: tuple[str, ...]
    code: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    """Return README.md, CONTRIBUTING.md and the files of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[Block]:
    """Return the fenced blocks of one language, in order."""
    text = path.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        words = match["info"].split()
        if words[:1] == [language]:
            line = text.count("\n", 0, match.start("code")) + 1
            found.append(Block(path, line, language, tuple(words[1:]), match["code"]))
    return found


def without_blocks(path: Path) -> str:
    """Return the prose of a file."""
    return _FENCE.sub("", path.read_text("utf-8"))


def commands(path: Path) -> list[list[str]]:
    """Return the words of each command in the `bash` blocks, without settings of variables."""
    found = []
    for block in blocks(path, "bash"):
        for line in block.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and _ASSIGNMENT.match(words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


@dataclass(frozen=True)
class ShellLine:
    """One command of a `bash` block, as it is printed.

    Attributes:
        block: Where it stands.
        line: Number of its first line in the file, from 1.
        text: All of it, with the line breaks that a backslash continues.
    """

    block: Block
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.block.path.relative_to(ROOT).as_posix()}:{self.line}: {self.text}"


def shell_lines(path: Path) -> list[ShellLine]:
    """Return the commands of the `bash` blocks of a page that are not tagged `no-run`, in order."""
    found: list[ShellLine] = []
    for block in blocks(path, "bash"):
        if "no-run" in block.tags:
            continue
        begun: list[str] = []
        for number, text in enumerate(block.code.splitlines(), block.line):
            begun.append(text)
            if text.endswith("\\"):
                continue
            if shlex.split(" ".join(begun).replace("\\", " "), comments=True):
                found.append(ShellLine(block, number - len(begun) + 1, "\n".join(begun)))
            begun = []
    return found
