"""What every verb has: --quiet, --verbose, completion, and help in plain words."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nexus.cli import main as cli
from nexus.core.errors import InputError, NexusWarning
from nexus.core.progress import Progress

COMPLETE = """
import sys
sys.argv = ["nexus"]
from nexus.cli.main import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "rich.console"} & set(sys.modules)
    print(sorted(heavy), file=sys.stderr)
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Add a verb `work` that shows progress, warns, logs, prints and perhaps fails."""
    chosen = types.SimpleNamespace(error=None)

    def work() -> None:
        """Work."""
        logging.getLogger("nexus.work").debug("working")
        warnings.warn("a weaker result", NexusWarning, stacklevel=1)
        with Progress(1, unit="images") as bar:
            bar.advance()
            bar.say("error: a.png")
        print("result")
        if chosen.error:
            raise chosen.error

    module = types.ModuleType("nexus.cli.work")
    module.work = work  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nexus.cli.work", module)
    monkeypatch.setitem(cli.VERBS, "work", "Work.")
    monkeypatch.delenv("NEXUS_LOG", raising=False)
    return chosen


def completed(words: str, place: int, shell: str = "bash") -> list[str]:
    """Return what a shell is told, after checking that nothing heavy was loaded for it."""
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        env={
            **os.environ,
            "_NEXUS_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(place),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"
    return done.stdout.split("\n")[:-1]


def test_both_options_are_on_every_verb() -> None:
    """The help of each verb, and of a verb's own verb, lists --quiet and --verbose."""
    for words in (*([name] for name in cli.VERBS), ["evaluate", "compare"], []):
        text = run(*words, "--help").stdout

        assert "-q, --quiet" in text
        assert "-v, --verbose" in text


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("verb")
@pytest.mark.parametrize("words", [("--quiet", "work"), ("work", "--quiet"), ("-q", "work")])
def test_quiet_leaves_results_and_errors(words: tuple[str, ...]) -> None:
    """Progress, notes and warnings are gone, wherever the option stands."""
    result = run(*words)

    assert result.stdout == "result\n"
    assert result.stderr == "error: a.png\n"
    assert "NEXUS_LOG" not in os.environ


@pytest.mark.filterwarnings("default")
def test_quiet_keeps_the_error_that_ends_a_run(verb: types.SimpleNamespace) -> None:
    """Error and hint are said, and the exit code is the same."""
    verb.error = InputError("expected a, got b", hint="pass a")
    result = run("work", "-q")

    assert result.exit_code == 2
    assert result.stderr == "error: a.png\nerror: expected a, got b\nhint: pass a\n"


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("verb")
@pytest.mark.parametrize("words", [("--verbose", "work"), ("work", "-v"), ("-v", "work", "-v")])
def test_verbose_adds_records_once(words: tuple[str, ...]) -> None:
    """Log records come beside what is said otherwise; a warning is not said twice."""
    lines = run(*words).stderr.splitlines()

    assert lines[:2] == ["debug: working", "warning: a weaker result"]
    assert lines[3].startswith("1 image in ")
    assert len(lines) == 4
    assert run("work").stderr.splitlines()[:2] == lines[1:3]


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("verb")
def test_the_environment_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """NEXUS_LOG=debug is --verbose, and an option goes before it; a wrong value is refused."""
    monkeypatch.setenv("NEXUS_LOG", "debug")
    loud, quiet = run("work"), run("work", "--quiet")
    monkeypatch.setenv("NEXUS_LOG", "loud")
    wrong = run("work")

    assert loud.stderr.startswith("debug: working\n")
    assert quiet.stderr == "error: a.png\n"
    assert wrong.exit_code == 2
    assert "expected NEXUS_LOG to be one of" in wrong.stderr


@pytest.mark.usefixtures("verb")
def test_both_at_once_are_refused() -> None:
    """--quiet and --verbose contradict each other."""
    result = run("-q", "work", "-v")

    assert result.exit_code == 2
    assert "expected --quiet or --verbose, got both" in result.stderr


def test_help_names_no_types_of_python() -> None:
    """Neither brackets of a type nor braces stand in the help of any verb."""
    for words in (*([name] for name in cli.VERBS), ["evaluate", "compare"]):
        text = run(*words, "--help").stdout

        for raw in ("<", "{", "list[", "TEXT", "default: None", "default: ]"):
            assert raw not in text, (words, raw)


def test_help_of_a_verb_is_its_help() -> None:
    """`nexus help VERB...` prints what `--help` does; without a verb, the list of verbs."""
    assert run("help", "segment").stdout == run("segment", "--help").stdout
    assert run("help", "evaluate", "compare").stdout == run("evaluate", "compare", "--help").stdout
    assert run("help").stdout == run("--help").stdout


def test_help_of_an_unknown_verb_names_the_nearest() -> None:
    """A misspelt verb is wrong usage, as it is without `help`."""
    result = run("help", "segmnt")
    inner = run("help", "segment", "more")

    assert result.exit_code == inner.exit_code == 2
    assert "hint: did you mean 'segment'?" in result.stderr
    assert (
        "expected no more after 'segment', which has no verbs of its own, got 'more'"
        in inner.stderr
    )


@pytest.mark.parametrize(
    ("words", "place", "values"),
    [
        ("nexus ", 1, [*cli.VERBS]),
        ("nexus ev", 1, ["evaluate"]),
        ("nexus segment --mult", 2, ["--multimask"]),
        ("nexus segment --model lite", 3, ["lite_medsam"]),
        ("nexus generate --format y", 3, ["yolo"]),
        ("nexus track --format p", 3, ["png,jsonl", "png"]),
        ("nexus evaluate --dataset co", 3, ["coco"]),
        ("nexus evaluate com", 2, ["compare"]),
        ("nexus train --recipe p", 3, ["points"]),
        ("nexus models mob", 2, ["mobile_sam"]),
        ("nexus fetch mobile_sam ed", 3, ["edgetam"]),
        ("nexus help tr", 2, ["track", "train"]),
    ],
)
def test_bash_completes(words: str, place: int, values: list[str]) -> None:
    """Verbs, options and values come from the tables of the code, without loading torch."""
    assert completed(words, place) == values


def test_files_are_left_to_the_shell() -> None:
    """Where a path is wanted nothing is offered, which makes bash and zsh complete files."""
    assert completed("nexus segment im", 2) == [""]
    assert completed("nexus segment --out re", 3) == [""]
    assert completed("nexus segment im", 2, "zsh") == ["_files"]


def test_zsh_and_fish_show_what_a_value_means() -> None:
    """Descriptions stand beside verbs and models; the library that formats them stays unloaded."""
    assert completed("nexus hel", 1, "fish") == ["help\tExplain a verb."]
    (line,) = completed("nexus segment --model mobile", 3, "zsh")
    assert '"mobile_sam":"SAM with a TinyViT encoder, for CPUs"' in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_in_the_home_of_the_user(shell: str, tmp_path: Path) -> None:
    """--install-completion writes the script that --show-completion prints."""
    code = "from nexus.cli.main import main; main()"
    env = {
        **os.environ,
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    for option in ("--install-completion", "--show-completion"):
        done = subprocess.run(
            [sys.executable, "-c", code, option, shell], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]

    assert "_NEXUS_COMPLETE=complete_" + shell in done.stdout
    assert any("_NEXUS_COMPLETE=complete_" + shell in text for text in written)


def test_the_completed_words_of_options_are_those_the_verbs_take() -> None:
    """Words that stand in a table for completion alone agree with what is accepted."""
    from nexus.cli.verb import _VALUES
    from nexus.core.device import _DTYPES
    from nexus.eval.settings import PROTOCOLS

    assert set(_VALUES["--dtype"]()) == set(_DTYPES)
    assert set(_VALUES["evaluate --protocol"]()) == set(PROTOCOLS)
    assert json.dumps([*_VALUES["help VERB"]()]) == json.dumps([*cli.VERBS])
