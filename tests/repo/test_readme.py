"""The commands in README.md, CONTRIBUTING.md and docs/ can be typed."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.doc_blocks import ROOT, commands, pages

# Programs that are not ours; what follows them is not checked.
FOREIGN = {"cd", "cp", "git", "mkdir", "mv", "pip", "unzip"}
# What every verb has; docs/cli.md says it once.
ALWAYS = {"--help", "--quiet", "--verbose"}
FLAG = re.compile(r"--?[a-z][a-z-]*")
LAUNCHERS = ("accelerate", "torchrun")  # of the module nexus


def make_targets() -> set[str]:
    """Return the targets of the Makefile that are not files."""
    (line,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return set(line.split())


def nexus_help(*verb: str) -> str:
    """Return what `nexus VERB --help` prints."""
    code = f"import sys; sys.argv = ['nexus', *{list(verb)}, '--help']; "
    result = subprocess.run(
        [sys.executable, "-c", code + "from nexus.cli.main import main; main()"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "TERM": "dumb", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return result.stdout


def problem_of(words: list[str]) -> str | None:
    """Say what is wrong with a command, or None."""
    program, *arguments = words
    if program in FOREIGN:
        return None
    if program == "make":
        unknown = [word for word in arguments if "=" not in word and word not in make_targets()]
        return f"no make target {unknown}" if unknown else None
    if program == "nexus":
        return problem_of_nexus(arguments)
    if program == "python":
        return problem_of_python(arguments)
    if program in LAUNCHERS:
        return problem_of_nexus(arguments[arguments.index("nexus") + 1 :])
    return f"unknown program {program!r}"


def problem_of_nexus(arguments: list[str]) -> str | None:
    """Check the verb and the options against what `--help` lists."""
    verb = [] if arguments[0].startswith("-") else [arguments.pop(0)]
    if verb and verb[0] not in nexus_help():
        return f"no verb {verb[0]!r}"
    known = set(FLAG.findall(nexus_help(*verb)))
    unknown = [word for word in arguments if FLAG.fullmatch(word) and word not in known]
    return f"no options {unknown}" if unknown else None


def problem_of_python(arguments: list[str]) -> str | None:
    """Check the program a `python` command runs."""
    while arguments[0] == "-X":
        arguments = arguments[2:]
    if arguments[0] == "-c":
        ast.parse(arguments[1])
        return None
    if arguments[0] == "-m":
        return None if importlib.util.find_spec(arguments[1]) else f"no module {arguments[1]!r}"
    return None if (ROOT / arguments[0]).is_file() else f"no file {arguments[0]!r}"


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_every_command_exists(page: Path) -> None:
    """Each line of a `bash` block names a target, verb, option or file that is there."""
    problems = [
        f"{' '.join(words)}: {problem}"
        for words in commands(page)
        if (problem := problem_of(list(words))) is not None
    ]

    assert problems == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["make", "tset"], "no make target"),
        (["nexus", "segmnet", "a.png"], "no verb"),
        (["nexus", "segment", "--boxx", "1,2,3,4"], "no options"),
        (["python", "benchmarks/nothing.py"], "no file"),
        (["sudo", "rm"], "unknown program"),
    ],
)
def test_a_wrong_command_is_noticed(words: list[str], problem: str) -> None:
    """The check above finds what it is there to find."""
    assert problem in str(problem_of(words))


def test_readme_starts_with_the_two_commands() -> None:
    """The first commands of README.md are the two a newcomer types."""
    assert commands(ROOT / "README.md")[:2] == [["make", "demo"], ["make", "test"]]


def test_the_options_are_all_documented() -> None:
    """docs/cli.md lists for each verb the options its `--help` has, and no others."""
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for verb in ("segment", "generate", "track", "models", "fetch"):
        section = text.partition(f"## `nexus {verb}`")[2].partition("\n## ")[0]
        documented = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
        offered = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", option_column(nexus_help(verb))))

        assert documented == offered - ALWAYS


def option_column(help_text: str) -> str:
    """Return the lines of `--help` that introduce an option."""
    options = help_text.partition("Options:")[2]
    return "\n".join(line for line in options.splitlines() if re.match(r"  -", line)).replace(
        "/", " "
    )


def test_the_exit_codes_are_all_documented() -> None:
    """docs/cli.md has the exit codes of `nexus --help`, in its words."""
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    documented = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    offered = re.findall(r"^ +(\d+) +(.+)$", nexus_help(), re.MULTILINE)

    assert documented == offered
    assert len(documented) >= 5
