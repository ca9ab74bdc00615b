"""Runs on videos as YAML asks for them: `task: video`."""

from __future__ import annotations

import pytest

from nexus.core.errors import InputError
from nexus.train.config import ModelSettings, SetSettings, SetsSettings
from nexus.train.config_file import parse_settings
from nexus.train.video.clip_sampling import ClipSettings
from nexus.train.video.config import (
    VideoAdaptSettings,
    VideoEvaluateSettings,
    VideoOptimizerSettings,
    VideoTrainingSettings,
)

CONFIG = """\
task: video
model: {device: cpu}
data:
  root: videos
  held_out: 0.5
  sets: [{folder: drawn, reader: davis2017, split: val}]
optimizer:
  steps: 2
clips: {frames: 2, clicks: 0}
evaluate: {measures: [j], every: 10}
"""


def test_blocks_are_those_of_images_with_rates_of_their_own() -> None:
    """What the file leaves out is what videos have by default, not what images have."""
    settings = parse_settings(CONFIG, "run.yaml")

    assert isinstance(settings, VideoTrainingSettings)
    assert settings == VideoTrainingSettings(
        data=SetsSettings((SetSettings("drawn", "davis2017", split="val"),), "videos", 0.5),
        model=settings.model,
        optimizer=VideoOptimizerSettings(steps=2),
        clips=ClipSettings(frames=2, clicks=0),
        evaluate=VideoEvaluateSettings(("j",), every=10),
    )
    assert settings.model.name == "sam2.1_hiera_tiny" != ModelSettings().name
    assert settings.adapt == VideoAdaptSettings("all_but_encoder")
    assert settings.optimizer.learning_rate == 5e-6
    assert settings.optimizer.ema is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps:", "step:", "run.yaml, line 8: unknown key 'step'; did you mean 'steps'?"),
        ("task: video", "task: videos", "line 1: expected task to be one of images, video, got"),
        ("clips: {frames: 2", "clips: {frames: 1", "line 9: expected frames of at least 2, got 1"),
        ("[j]", "[box]", "line 10: expected measures to be one of j, f, got 'box'"),
        ("  steps: 2", "  rows: 2", "line 8: expected either steps or minutes, got neither"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, message: str) -> None:
    """Unknown keys, values out of range and an unknown task say where they are."""
    with pytest.raises(InputError) as caught:
        parse_settings(CONFIG.replace(old, new), "run.yaml")

    assert message in caught.value.message


def test_a_file_names_its_sets() -> None:
    """In Python a caller can bring videos; a file cannot."""
    text = CONFIG[: CONFIG.index("data:")] + CONFIG[CONFIG.index("optimizer:") :]

    with pytest.raises(InputError, match="run.yaml, line 1: expected the key 'data', got none"):
        parse_settings(text, "run.yaml")
    assert VideoTrainingSettings(optimizer=VideoOptimizerSettings(steps=1)).data is None
