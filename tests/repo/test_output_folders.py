"""The one rule for the folder of --out, for every verb that has one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nexus.cli.main import app
from nexus.core.errors import WeightsNotFoundError
from nexus.core.files import STATE_FOLDER
from nexus.data.formats.writers import FORMATS
from tests.cli import verbs
from tests.cli.verbs import VERBS, command, use_tiny_models

ROOT = Path(__file__).parents[2]
ROWS = [
    *((verb, []) for verb in VERBS if verb != "generate"),
    *(("generate", ["--format", name]) for name in FORMATS),
]
IDS = [" ".join([verb, *more[1:]]) for verb, more in ROWS]


def run(arguments: list[str]) -> Result:
    """Call `nexus`."""
    return CliRunner().invoke(app, arguments)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a folder but those of its state."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if STATE_FOLDER not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize(("verb", "more"), ROWS, ids=IDS)
@pytest.mark.filterwarnings("default::nexus.core.errors.NexusWarning")
def test_files_of_others_survive(
    verb: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside results they stay; in the place of any of them they are named, and nothing is done."""
    asked: list[int] = []
    use_tiny_models(verb, monkeypatch, lambda: asked.append(1))
    out = tmp_path / "out"
    arguments = command(verb, tmp_path / "inputs", out, *more)
    mine = {"notes.txt": b"mine", "masks/mine.png": b"mine", "labels/classes.txt": b"mine"}
    for name, data in mine.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    first = run(arguments)
    made = {name for name in tree(out) if name not in mine}
    again = run([*arguments, "--overwrite"])

    assert first.exit_code == again.exit_code == 0, first.output + again.output
    assert {name: data for name, data in tree(out).items() if name in mine} == mine
    assert {name for name in tree(out) if name not in mine and "events.out" not in name} == {
        name for name in made if "events.out" not in name
    }
    assert asked
    asked.clear()
    for number, name in enumerate(sorted(made)):
        if "events.out" in name:  # which has a new name in every run
            continue
        folder = tmp_path / str(number)
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"mine")
        result = run([str(folder) if each == str(out) else each for each in arguments])

        assert result.exit_code == 2, (name, result.output)
        assert f"with {name}, not made by Nexus" in result.stderr, name
        assert "--overwrite" in result.stderr
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
            name
        }
        assert (folder / name).read_bytes() == b"mine"
    assert not asked


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("default::nexus.core.errors.NexusWarning")
def test_the_same_command_goes_on_and_prints_the_same(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is finished is not done again; results of another verb are refused."""
    use_tiny_models(verb, monkeypatch)
    out = tmp_path / "out"
    arguments = command(verb, tmp_path / "inputs", out)
    first, again = run(arguments), run(arguments)
    other = next(each for each in VERBS if each != verb)
    use_tiny_models(other, monkeypatch)
    held = tree(out)
    refused = run(command(other, tmp_path / "others", out))

    assert first.exit_code == again.exit_code == 0, first.output + again.output
    assert again.stdout == first.stdout
    assert refused.exit_code == 2
    assert f"with those of {verb}\nhint: take another folder, or begin anew" in refused.stderr
    assert tree(out) == held


@pytest.mark.parametrize("verb", VERBS)
def test_the_second_of_two_processes_is_refused(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so with code 1, also to overwrite; the first comes to its end."""
    root, out = tmp_path / "inputs", tmp_path / "out"
    arguments = command(verb, root, out)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, verbs.__file__, verb, str(root), *arguments[1:]]
    with subprocess.Popen(
        program, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as first:
        while first.poll() is None and not (root / "begun").exists():
            time.sleep(0.01)
        assert (root / "begun").exists(), first.communicate()
        use_tiny_models(verb, monkeypatch)
        results = [run(arguments), run([*arguments, "--overwrite"])]
        (root / "go").touch()
        _, messages = first.communicate(timeout=300)

    assert first.returncode == 0, messages
    for result in results:
        assert result.exit_code == 1, result.output
        assert f"error: expected '{out}' to be free, got one that another run" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_is_refused_leaves_no_folder(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot be had is an error before anything is made: no folder and no lock."""

    def load(*_: object, **__: object) -> None:
        raise WeightsNotFoundError("expected weights, got none")

    monkeypatch.setattr("nexus.models.cv.load_model", load)
    monkeypatch.setattr("nexus.train.loop.load_model", load)
    out = tmp_path / "new" / "out"
    result = run(command(verb, tmp_path / "inputs", out))

    assert result.exit_code == 3, result.output
    assert not (tmp_path / "new").exists()
