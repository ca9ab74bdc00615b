"""The Makefile, the pinned versions and what CI runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
TARGETS = (
    "help",
    "setup",
    "demo",
    "test",
    "check",
    "fmt",
    "proof-generate",
    "proof-reference",
    "proof-points",
    "proof-domain",
    "proof-memory",
    "bench",
    "clean",
)
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python3.10", "python")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make on the PATH")

# Stands in for a Python: `-m venv` makes an environment whose python does what `pip_status` says.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
  "-m venv"*) mkdir -p .venv/bin
    printf '#!/bin/sh\\ncase "$*" in\\n-c*) exit 0;;\\n*) echo "$*" >> pip.log; ' > .venv/bin/python
    printf 'exit $(cat pip_status);;\\nesac\\n' >> .venv/bin/python
    chmod +x .venv/bin/python;;
esac
"""


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(text, "utf-8")
    path.chmod(0o755)
    return path


def make(
    folder: Path, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run make in a folder, with `path` first on the PATH."""
    # A make above this test (make test) would pass its flags and job slots on.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    environment.pop("PYTHON", None)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Lay out what set-up reads, in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    script(tmp_path / "fake python", FAKE_PYTHON)
    return folder


def set_up(checkout: Path, pip_status: int) -> subprocess.CompletedProcess[str]:
    """Run `make setup` with a Python whose pip ends with `pip_status`."""
    (checkout / "pip_status").write_text(str(pip_status))
    return make(checkout, "setup", f"PYTHON={checkout.parent / 'fake python'}")


@needs_make
def test_help_lists_every_target() -> None:
    """`make` alone prints each target with what it does."""
    result = make(ROOT)

    assert result.returncode == 0
    assert tuple(re.findall(r"^  make ([\w-]+)", result.stdout, re.M)) == TARGETS


@needs_make
def test_set_up_is_done_once(checkout: Path) -> None:
    """The second `make setup` does nothing; a changed pyproject.toml installs again."""
    first = set_up(checkout, 0)
    installs = (checkout / "pip.log").read_text().count("pip install")
    again = set_up(checkout, 0)
    unchanged = (checkout / "pip.log").read_text().count("pip install")
    os.utime(checkout / "pyproject.toml", (4e9, 4e9))
    set_up(checkout, 0)

    assert (first.returncode, again.returncode) == (0, 0)
    assert (installs, unchanged) == (3, 3)
    assert (checkout / "pip.log").read_text().count("pip install") == 6


@needs_make
def test_a_failed_set_up_is_taken_up_again(checkout: Path) -> None:
    """When pip fails there is no stamp, so that the next `make setup` installs."""
    failed = set_up(checkout, 1)
    stamps = [(checkout / ".venv" / name).exists() for name in (".core", ".dev")]
    repaired = set_up(checkout, 0)

    assert failed.returncode != 0
    assert stamps == [False, False]
    assert repaired.returncode == 0
    assert (checkout / ".venv" / ".dev").exists()


@needs_make
def test_the_first_python_that_works_is_taken(checkout: Path, tmp_path: Path) -> None:
    """A `python3` that is too old or a shim for nothing is passed over."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script(programs / "python3", "#!/bin/sh\nexit 127\n")
    script(programs / "python3.13", "#!/bin/sh\nexit 0\n")

    result = make(checkout, "-n", "setup", path=programs)

    assert '"python3.13" -m venv .venv' in result.stdout


@needs_make
def test_no_python_is_said_clearly(checkout: Path, tmp_path: Path) -> None:
    """Without a Python 3.10 the message names what was expected and what to do."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in CANDIDATES:
        script(programs / name, "#!/bin/sh\nexit 1\n")

    result = make(checkout, "setup", path=programs)

    assert result.returncode != 0
    assert "error: expected Python >= 3.10 on the PATH, got none" in result.stderr
    assert "hint: install one, or name it" in result.stderr


def test_every_direct_dependency_is_pinned() -> None:
    """constraints.txt has one version, inside pyproject's range, for each Python we support."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [Requirement(item) for item in project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += [Requirement(item) for item in extra]
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for version in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": version}
        for requirement in wanted:
            if requirement.marker is not None and not requirement.marker.evaluate(environment):
                continue
            name = canonicalize_name(requirement.name)
            found = [
                next(iter(pin.specifier)).version
                for pin in pins
                if canonicalize_name(pin.name) == name
                and (pin.marker is None or pin.marker.evaluate(environment))
            ]

            assert len(found) == 1, f"{name} on Python {version}: {found}"
            assert requirement.specifier.contains(found[0]), f"{requirement}, pinned {found[0]}"


def test_ci_runs_make_test() -> None:
    """CI runs what anyone can run: `.ci/run` is executable and ends in `make test`."""
    path = ROOT / ".ci" / "run"

    assert os.access(path, os.X_OK)
    assert path.read_text("utf-8").splitlines()[-1] == "exec make test"
