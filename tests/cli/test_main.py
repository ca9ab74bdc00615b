from __future__ import annotations

import json
import subprocess
import sys
import types
import warnings

import pytest
import typer
from typer.testing import CliRunner, Result

import nexus
from nexus.cli import main as cli
from nexus.core.errors import (
    CheckpointError,
    DownloadError,
    InputError,
    MissingDependencyError,
    NexusWarning,
    UnknownModelError,
    WeightsNotFoundError,
)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Add a verb `work` to the table whose function a test chooses."""
    chosen = types.SimpleNamespace(work=lambda: None)

    def work(name: str = "x") -> None:
        """Work."""
        chosen.work()

    module = types.ModuleType("nexus.cli.work")
    module.work = work  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nexus.cli.work", module)
    monkeypatch.setitem(cli.VERBS, "work", "Work.")
    return chosen


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def raiser(error: BaseException) -> object:
    def work() -> None:
        raise error

    return work


def test_version_is_the_packages() -> None:
    """--version prints one line and exits with 0."""
    result = run("--version")

    assert result.exit_code == 0
    assert result.stdout == f"nexus {nexus.__version__}\n"


def test_the_package_is_a_module_that_launchers_can_start() -> None:
    """`python -m nexus` is the command: torchrun and accelerate start modules."""
    result = subprocess.run(
        [sys.executable, "-m", "nexus", "--version"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0
    assert result.stdout == f"nexus {nexus.__version__}\n"


def test_help_lists_the_verbs_and_the_exit_codes() -> None:
    """--help and -h name every verb and every exit code, as the module's docstring does."""
    text = run("--help").stdout

    assert run("-h").stdout == text
    for name, summary in cli.VERBS.items():
        assert f"{name} " in text
        assert summary in text
    codes = [line.strip() for line in text.split("Exit codes:\n")[1].split("\n\n")[0].splitlines()]
    assert [line.split()[0] for line in codes] == ["0", "1", "2", "3", "130", "141"]
    for line in codes:
        assert line in (cli.__doc__ or "")


def test_every_verb_of_the_table_loads_and_explains_itself() -> None:
    """Each verb's --help works."""
    for name in cli.VERBS:
        result = run(name, "--help")

        assert result.exit_code == 0
        assert f"nexus {name}" in result.stdout or f"root {name}" in result.stdout


def test_no_verb_shows_the_help_and_exits_with_2() -> None:
    """A bare call is wrong usage, answered with the help."""
    result = run()

    assert result.exit_code == 2
    assert "Verbs:" in result.output


def test_an_unknown_verb_names_the_nearest() -> None:
    """A misspelt verb exits with 2 and a hint; one like no other, without."""
    near, far = run("segmnt"), run("--", "zzz")

    assert near.exit_code == far.exit_code == 2
    assert "expected a verb among segment, " in near.stderr
    assert "models, fetch, help, got 'segmnt'" in near.stderr
    assert "hint: did you mean 'segment'?" in near.stderr
    assert "hint" not in far.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong"), 2),
        (UnknownModelError("unknown"), 2),
        (WeightsNotFoundError("missing"), 3),
        (DownloadError("failed"), 3),
        (CheckpointError("damaged"), 3),
        (MissingDependencyError("not installed"), 1),
        (OSError(28, "No space left on device"), 1),
        (typer.Exit(1), 1),
        (typer.Exit(0), 0),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, verb: types.SimpleNamespace
) -> None:
    """Arguments exit with 2, weights with 3, other failures with 1."""
    verb.work = raiser(error)

    assert run("work").exit_code == code


def test_an_error_is_its_message_and_hint_without_a_traceback(
    verb: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stderr has `error:` and `hint:` lines; NEXUS_DEBUG=1 puts the traceback before them."""
    verb.work = raiser(InputError("expected a, got b", hint="pass a"))
    monkeypatch.delenv("NEXUS_DEBUG", raising=False)
    plain = run("work")
    monkeypatch.setenv("NEXUS_DEBUG", "1")
    debug = run("work")

    assert plain.stdout == ""
    assert plain.stderr == "error: expected a, got b\nhint: pass a\n"
    assert debug.stderr.startswith("Traceback (most recent call last):")
    assert debug.stderr.endswith(plain.stderr)
    assert debug.exit_code == plain.exit_code == 2


def test_an_interrupt_exits_with_130(verb: types.SimpleNamespace) -> None:
    """Ctrl-C says so in one word."""
    verb.work = raiser(KeyboardInterrupt())
    result = run("work")

    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_a_closed_pipe_is_quiet(verb: types.SimpleNamespace) -> None:
    """A BrokenPipeError exits with 141 and no word."""
    verb.work = raiser(BrokenPipeError(32, "Broken pipe"))
    result = run("work")

    assert result.exit_code == 141
    assert result.stderr == ""


def test_a_bug_keeps_its_traceback(verb: types.SimpleNamespace) -> None:
    """Errors that are not Nexus's own are not dressed up."""
    verb.work = raiser(ZeroDivisionError())

    assert isinstance(run("work").exception, ZeroDivisionError)


@pytest.mark.filterwarnings("default")
def test_warnings_go_to_stderr_in_one_line(verb: types.SimpleNamespace) -> None:
    """A NexusWarning is its message; another warning keeps Python's form."""

    def work() -> None:
        warnings.warn("a weaker result", NexusWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    before = warnings.showwarning
    verb.work = work
    lines = run("work").stderr.splitlines()

    assert lines[0] == "warning: a weaker result"
    assert "UserWarning: something else" in lines[1]
    assert warnings.showwarning is before


PROBE = """
import json, sys
sys.argv = ["nexus", *sys.argv[1:]]
from nexus.cli.main import main
try:
    main()
except SystemExit as done:
    code = done.code
heavy = {"torch", "numpy", "PIL", "transformers", "rich", "nexus.cli.segment"} & set(sys.modules)
print(json.dumps([code, sorted(heavy)]), file=sys.stderr)
"""


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(argument: str) -> None:
    """Neither torch nor NumPy, Pillow or a verb is imported to print the help or version."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, argument], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stderr) == [0, []]
    assert done.stdout


@pytest.mark.parametrize("arguments", [["segment", "--help"], ["segment", "a.png", "--out", "o"]])
def test_a_verbs_help_and_usage_errors_import_no_torch(arguments: list[str]) -> None:
    """The help of segment, and wrong arguments to it, come without loading torch."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True
    )

    assert "torch" not in json.loads(done.stderr.splitlines()[-1])[1]


def test_a_reader_that_leaves_early_causes_no_message() -> None:
    """`nexus models | true` is quiet on stderr and exits as a killed writer does."""
    command = [sys.executable, "-c", "from nexus.cli.main import main; main()", "models"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        message = process.stderr.read()

    assert message == ""
    assert process.returncode == 141


def test_an_option_may_stand_without_its_value() -> None:
    """`--ray` at the end or before another option means a cluster here; with an address, that."""
    completed = cli._with_addresses

    assert completed(["in", "--ray"]) == ["in", "--ray", "local"]
    assert completed(["--ray", "--workers", "2"]) == ["--ray", "local", "--workers", "2"]
    assert completed(["--ray", "ray://a:1", "in"]) == ["--ray", "ray://a:1", "in"]
