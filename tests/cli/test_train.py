"""`nexus train`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import nexus.train.loop as loop
from nexus.cli.main import app
from nexus.models.cv import SAM
from nexus.models.policy import LITE_MEDSAM_POLICY
from tests.models.tiny import TINY, TINY_POLICY, tiny_sam
from tests.models.tiny_sam2 import tiny_sam2
from tests.train.moving_square import draw_davis
from tests.train.tiny_run import draw_set

CONFIG = """\
model: {name: lite_medsam, device: cpu}
data:
  root: ROOT
  held_out: 0.34
  min_area: 20
  sets: [{folder: shapes}]
prompts:
  first: {box: 1}
optimizer: {steps: 2, rows: 1}
evaluate: {measures: [box]}
cache: {folder: ROOT/embeddings}
"""

VIDEO_CONFIG = """\
task: video
model: {device: cpu}
data:
  root: ROOT
  held_out: 0.5
  sets: [{folder: drawn, reader: davis2017, split: val}]
optimizer: {steps: 2}
clips: {frames: 2, clicks: 0}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A YAML file over a drawn set; the model it names is a tiny one."""

    def tiny(*arguments: object, **options: object) -> SAM:
        model = SAM(TINY, "lite_medsam", LITE_MEDSAM_POLICY)
        model.load_state_dict(tiny_sam().state_dict())
        model.policy = TINY_POLICY
        return model

    monkeypatch.setattr(loop, "load_model", tiny)
    draw_set(tmp_path / "shapes")
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.replace("ROOT", str(tmp_path)))
    return path


def test_a_run_from_the_command_line(config: Path, tmp_path: Path) -> None:
    """Figures and paths go to stdout, progress to stderr, and the card has the command."""
    out = tmp_path / "out"

    result = CliRunner().invoke(
        app, ["train", str(config), "--out", str(out), "--set", "optimizer.steps=1"]
    )

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("box all (4 objects): 0.")
    assert str(out / "best.safetensors") in lines
    assert "1 steps" in result.stderr
    card = (out / "MODEL_CARD.md").read_text()
    assert f"nexus train {config} --out {out} --set optimizer.steps=1" in card
    assert "| box | shapes | 4 |" in card
    assert "data digest: `" in card


def test_a_run_on_videos_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`task: video` tracks before and after and prints both; the folder is one run's."""
    monkeypatch.setattr(loop, "load_model", lambda *a, **k: tiny_sam2())
    draw_davis(tmp_path / "drawn", ("a", "b"))
    config, out = tmp_path / "run.yaml", tmp_path / "out"
    config.write_text(VIDEO_CONFIG.replace("ROOT", str(tmp_path)))
    arguments = ["train", str(config), "--out", str(out)]

    result = CliRunner().invoke(app, arguments)
    again = CliRunner().invoke(app, arguments)
    resumed = CliRunner().invoke(app, [*arguments, "--resume"])

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("j all (1 objects): 0.")
    assert lines[1].startswith("f all (1 objects): 0.")
    assert str(out / "best.safetensors") in lines
    assert str(out / "MODEL_CARD.md") in lines
    assert len((out / "steps.csv").read_text().splitlines()) == 3
    assert again.exit_code == 2
    assert "without a training run" in again.output
    assert resumed.exit_code == 0, resumed.output


def test_mistakes_are_usage_errors(config: Path, tmp_path: Path) -> None:
    """A typo is named with its line, and so is a call without a file; the exit code is 2."""
    config.write_text(config.read_text().replace("steps: 2", "stesp: 2"))

    typo = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "out")])
    neither = CliRunner().invoke(app, ["train"])
    both = CliRunner().invoke(app, ["train", str(config), "--recipe", "points"])

    assert typo.exit_code == neither.exit_code == both.exit_code == 2
    assert "run.yaml, line 9: unknown key 'stesp'; did you mean 'steps'?" in typo.stderr
    assert "expected either CONFIG or --recipe, got neither" in neither.stderr
    assert "got both" in both.stderr
    assert not (tmp_path / "out").exists()
