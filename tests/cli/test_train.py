"""`nexus train`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
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
    assert "1 step in" in result.stderr
    card = (out / "MODEL_CARD.md").read_text()
    assert f"nexus train {config} --out {out} --set optimizer.steps=1" in card
    assert "| box | shapes | 4 |" in card
    assert "data digest: `" in card


def test_a_run_on_videos_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`task: video` tracks before and after and prints both; run again it prints the same."""
    monkeypatch.setattr(loop, "load_model", lambda *a, **k: tiny_sam2())
    draw_davis(tmp_path / "drawn", ("a", "b"))
    config, out = tmp_path / "run.yaml", tmp_path / "out"
    config.write_text(VIDEO_CONFIG.replace("ROOT", str(tmp_path)))
    arguments = ["train", str(config), "--out", str(out)]

    result = CliRunner().invoke(app, arguments)
    again = CliRunner().invoke(app, arguments)
    other = CliRunner().invoke(app, [*arguments, "--set", "optimizer.steps=1", "--resume"])
    begun = CliRunner().invoke(app, [*arguments, "--set", "optimizer.steps=1", "--overwrite"])

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("j all (1 object): 0.")
    assert lines[1].startswith("f all (1 object): 0.")
    assert str(out / "best.safetensors") in lines
    assert str(out / "MODEL_CARD.md") in lines
    assert again.exit_code == 0, again.output
    assert again.stdout == result.stdout
    assert other.exit_code == 2
    assert "optimizer.steps was 2 and is 1" in other.stderr
    assert "or take another folder, or begin anew with --overwrite" in other.stderr
    assert begun.exit_code == 0, begun.output
    assert len((out / "steps.csv").read_text().splitlines()) == 2


QUICK = ["--set", "optimizer.steps=3", "--set", "augment.views=[plain]"]


@pytest.mark.parametrize("recipe", ["points", "domain"])
def test_a_recipe_on_a_folder_of_ones_own(recipe: str, config: Path, tmp_path: Path) -> None:
    """One set, or several below the folder; images of one patient are held out together."""
    for part in ("images", "masks"):
        for number, path in enumerate(sorted((tmp_path / "shapes" / part).iterdir())):
            path.rename(path.with_name(f"Patient {number // 2} ({number}).png"))
    shutil.copytree(tmp_path / "shapes", tmp_path / "sets" / "b")
    shutil.copytree(tmp_path / "shapes", tmp_path / "sets" / "a")
    held_out = {}
    for root in ("shapes", "sets"):
        words = ["--set", f"data.root={tmp_path / root}", "--out", str(tmp_path / f"{root}_out")]
        words += ["--set", f"cache.folder={tmp_path / 'cache'}", *QUICK]
        result = CliRunner().invoke(app, ["train", "--recipe", recipe, *words])
        assert result.exit_code == 0, result.output
        summary = json.loads((tmp_path / f"{root}_out" / "summary.json").read_text())
        held_out[root] = summary["held_out"]

    both = ["Patient 2 (4).png", "Patient 2 (5).png"]
    assert held_out["shapes"] == [f"shapes/{name}" for name in both]
    assert held_out["sets"] == [f"{title}/{name}" for title in "ab" for name in both]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: shutil.rmtree(root / "masks"), "without the folder 'masks'"),
        (lambda root: shutil.rmtree(root), "expected a folder of images and masks"),
        (
            lambda root: [path.unlink() for path in root.glob("*/shape_[1-9].png")],
            "expected at least two groups in the set 'shapes'",
        ),
        (
            lambda root: [
                path.rename(path.with_name(f"case1_{path.name}")) for path in root.glob("*/*.png")
            ],
            "got 6 of 'case1' alone",
        ),
        (
            lambda root: [Image.new("L", (48, 48)).save(path) for path in root.glob("masks/*.png")],
            "expected at least one object to learn from, got none",
        ),
        (
            lambda root: [path.unlink() for path in root.glob("images/*.png")],
            "expected a folder with images in it",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:shapes. no object in any of 6 masks")
def test_a_folder_that_cannot_be_learnt_from(
    change: Callable[[Path], object], message: str, config: Path, tmp_path: Path
) -> None:
    """No masks, no folder, one image, one patient, empty masks, no images."""
    change(tmp_path / "shapes")
    words = ["--set", f"data.root={tmp_path / 'shapes'}", "--out", str(tmp_path / "out"), *QUICK]
    words += ["--set", f"cache.folder={tmp_path / 'cache'}"]
    result = CliRunner().invoke(app, ["train", "--recipe", "domain", *words])

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
def test_a_recipe_on_real_images_under_foreign_names(shared_data: Path, tmp_path: Path) -> None:
    """Polyps under other names are learnt from for three steps, and the last is held out."""
    for part in ("images", "masks"):
        (tmp_path / "mine" / part).mkdir(parents=True)
        for number, path in enumerate(sorted((shared_data / "kvasir_seg" / part).iterdir())[:4]):
            target = f"Untersuchung {number}{path.suffix}"
            (tmp_path / "mine" / part / target).symlink_to(path)
    words = ["--set", f"data.root={tmp_path / 'mine'}", "--out", str(tmp_path / "out"), *QUICK]
    words += ["--set", f"cache.folder={tmp_path / 'cache'}"]
    result = CliRunner().invoke(app, ["train", "--recipe", "points", *words])
    assert result.exit_code == 0, (result.output, result.exception)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("box all (1 object")
    assert summary["held_out"] == ["mine/Untersuchung 3.jpg"]
    assert summary["steps"] == 3


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
