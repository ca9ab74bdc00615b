"""Whatever a verb is given, it answers with a message and a documented exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import nexus.models.cv
from nexus.cli.main import app
from tests.models.tiny import tiny_sam

ROOT = Path(__file__).parents[2]
SEGMENT = "segment {} --box 1,1,20,20 --out o"
GENERATE = "generate a.png --workers 1 --out o --set points_per_side=1"
EVALUATE = "evaluate --dataset {} --root {} --out o"
TRACK = "track frames --out o --box 1:1,1,9,9"


def each(line: str, code: int, names: str) -> list[tuple[str, int]]:
    """Return a command for each of several names, with the exit code they should have."""
    return [(line.format(name), code) for name in names.split()]


CASES = [
    *each(SEGMENT, 1, "empty cut.png bin missing " + "x" * 999),
    *each(SEGMENT, 2, "dir"),
    *each("segment a.png --box {} --out o", 2, "a 1,2 nan,1,2,3 1e999,1,2,3"),
    *each("segment a.png --box 1,1,9,9 --out {}", 2, "a.png a.png/x " + "x" * 300),
    *each("segment a.png --point {} --out o", 2, "1 1,2,nan 1,2,7"),
    *each("segment a.png --box 1,1,9,9 --out o --model {}", 2, "ünï x"),
    *each(GENERATE + " --set {}", 2, "points_per_side=abc points_per_side=NaN crop_n_layers=999"),
    *each(GENERATE + " --set {}", 2, "x=1 = point_grids=abc mask_threshold=a use_m2m=3"),
    *each(GENERATE + " --threads {}", 2, "99999999999"),
    *each(EVALUATE.format("folder", "{}"), 2, "missing dir a.png bin"),
    *each(EVALUATE.format("coco", "{}"), 2, "missing dir list.json bin"),
    *each("evaluate compare {0} {0}", 2, "missing dir bin latin a.png"),
    *each("train {} --out o", 2, "missing dir latin bin control keys task"),
    *each("train --recipe points --out o --set {}", 2, "x optimizer.steps=abc seed=9" + "9" * 20),
    *each("train --recipe {} --out o", 2, "x"),
    *each("track {} --box 1:1,1,9,9 --out o", 1, "missing empty a.png bin"),
    *each("track frames --box {} --out o", 2, "a 0:1,1,9,9 1:1,1,9,9@99999999999"),
    *each("track frames --prompts {} --out o", 2, "missing dir latin list.json"),
    *each(TRACK + " {} x", 2, "--start --format --model"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill a folder with what goes wrong, and work in it with a tiny model."""
    monkeypatch.chdir(tmp_path)
    model = tiny_sam(variant="lite_medsam")
    monkeypatch.setattr(nexus.models.cv, "load_model", lambda *names, **options: model)
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for name in ("a.png", "frames/0.png", "frames/1.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise).save(name)
    Path("dir").mkdir()
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:900])
    texts = {"empty": b"", "bin": bytes(range(256)), "latin": b"data: \xfc", "list.json": b"[1, 2]"}
    texts |= {"control": b"a: \x00", "keys": b"? [a]\n: b", "task": b"task: [a]"}
    for name, content in texts.items():
        Path(name).write_bytes(content)


@pytest.mark.parametrize(("line", "code"), CASES, ids=[line[:70] for line, _ in CASES])
def test_what_is_wrong_is_a_message(line: str, code: int) -> None:
    """No traceback: an error of a few lines on stderr, and the code that the help lists."""
    result = CliRunner().invoke(app, line.split(" "))

    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "rror: " in result.stderr
    assert len(result.stderr) < 3000


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("ending", "code", "message"),
    [
        (">&-", 1, "error: expected a stdout to print results to, got a closed one\nhint: "),
        pytest.param("> /dev/full", 1, "error: [Errno 28]", marks=pytest.mark.slow),
        pytest.param("2>&- > /dev/null", 0, "", marks=pytest.mark.slow),
    ],
)
def test_closed_streams(ending: str, code: int, message: str) -> None:
    """What cannot be printed is said before any work, and a closed stderr stops nothing."""
    line = f"{sys.executable} -m nexus models {ending}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=env, check=False)

    assert (done.returncode, done.stderr.startswith(message)) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
