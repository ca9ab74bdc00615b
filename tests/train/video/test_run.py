"""Runs on videos: their YAML, their split, and what they leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import nexus.train.video.run as video_run
from nexus.cli.main import app
from nexus.core.errors import InputError
from nexus.models.cv import SAM2
from nexus.train.config import SetSettings
from nexus.train.config_file import read_run, read_settings
from nexus.train.video.run import VideoDataSettings, VideoRunSettings, mean_j_and_f, split_videos
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2
from tests.train.moving_square import draw_davis

CONFIG = """\
task: video
model: {device: cpu}
data:
  root: ROOT
  held_out: 0.5
  sets: [{folder: drawn, reader: davis2017, split: val}]
training:
  steps: 2
  clips: {frames: 2, clicks: 0}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A YAML file over two drawn videos; the model it names is a tiny one."""
    monkeypatch.setattr(video_run, "load_model", lambda *a, **k: tiny_sam2())
    draw_davis(tmp_path / "drawn", ("a", "b"))
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.replace("ROOT", str(tmp_path)))
    return path


def test_a_run_on_videos_from_the_command_line(config: Path, tmp_path: Path) -> None:
    """`task: video` trains, tracks the held-out video before and after, and prints both."""
    out = tmp_path / "out"

    result = CliRunner().invoke(app, ["train", str(config), "--out", str(out)])

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mean J of held-out objects: 0.")
    assert lines[1].startswith("mean F of held-out objects: 0.")
    assert str(out / "model.safetensors") in lines
    assert len((out / "steps.csv").read_text().splitlines()) == 3


def test_an_earlier_run_is_taken_up(config: Path, tmp_path: Path) -> None:
    """With --resume a finished run has nothing to do; without, the folder is refused."""
    arguments = ["train", str(config), "--out", str(tmp_path / "out")]
    CliRunner().invoke(app, arguments)

    again = CliRunner().invoke(app, arguments)
    resumed = CliRunner().invoke(app, [*arguments, "--resume"])

    assert again.exit_code == 2
    assert "without an earlier run" in again.output
    assert resumed.exit_code == 0, resumed.output


def test_the_last_videos_are_held_out(config: Path) -> None:
    """Of two videos at one half, the later name is held out."""
    settings = read_run(config)

    assert isinstance(settings, VideoRunSettings)
    learnt, held_out = split_videos(settings.data)
    assert [[video.name for video in part] for part in (learnt, held_out)] == [["a"], ["b"]]


def test_nothing_held_out_has_no_figures() -> None:
    """Without held-out videos there is no mean."""
    assert mean_j_and_f(tiny_sam2(), []) is None


def test_a_typo_is_named_with_its_line(config: Path) -> None:
    """An unknown key of a video run is named with its line, and so is an unknown task."""
    text = config.read_text()

    config.write_text(text.replace("steps:", "step:"))
    with pytest.raises(InputError, match="run.yaml, line 8: unknown key 'step'; did you mean"):
        read_run(config)
    config.write_text(text.replace("task: video", "task: videos"))
    with pytest.raises(InputError, match="line 1: expected task to be one of images, video, got"):
        read_run(config)


def test_settings_of_images_are_not_those_of_videos(config: Path) -> None:
    """`read_settings` reads runs on images alone."""
    with pytest.raises(InputError, match="line 1: expected task to be images, got 'video'"):
        read_settings(config)


def test_a_model_without_memory_is_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAM cannot track, and that is said before anything is learnt."""
    monkeypatch.setattr(video_run, "load_model", lambda *a, **k: tiny_sam())
    settings = read_run(config)

    assert isinstance(settings, VideoRunSettings)
    with pytest.raises(InputError, match="expected a model that tracks, got"):
        video_run.run_on_videos(settings, tmp_path / "out")


def test_sets_have_names_of_their_own() -> None:
    """Two sets of one folder's name are refused, and so are none."""
    with pytest.raises(InputError, match="expected sets with names of their own, got 'a' twice"):
        VideoDataSettings((SetSettings("a"), SetSettings("b/a")))
    with pytest.raises(InputError, match="expected at least one entry of sets, got none"):
        VideoDataSettings(())


def test_what_was_learnt_loads(config: Path, tmp_path: Path) -> None:
    """The result has the weights of the model that was trained."""
    settings = read_run(config)
    assert isinstance(settings, VideoRunSettings)
    model = tiny_sam2()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    result = video_run.run_on_videos(settings, tmp_path / "out", model=model)

    assert isinstance(model, SAM2)
    assert len(result.steps) == 2
    assert any(not before[name].equal(tensor) for name, tensor in model.state_dict().items())
