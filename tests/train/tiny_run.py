"""Drawn data, and runs over it small enough for every test: one on images, one on videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nexus.models.pretrained import PretrainedModel
from nexus.train.config import (
    AdaptSettings,
    AugmentSettings,
    CacheSettings,
    DataSettings,
    EvaluateSettings,
    ModelSettings,
    OptimizerSettings,
    PromptSettings,
    RunSettings,
    SetSettings,
    SetsSettings,
    TrainingSettings,
)
from nexus.train.video.clip_sampling import ClipSettings
from nexus.train.video.config import (
    VideoEvaluateSettings,
    VideoModelSettings,
    VideoOptimizerSettings,
    VideoTrainingSettings,
)
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2
from tests.train.moving_square import draw_davis


def draw_set(folder: Path, images: int = 6, side_px: int = 48) -> Path:
    """Draw images with a disc and a square each, in the layout of the reader 'folder'."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(images)
    y, x = np.mgrid[:side_px, :side_px]
    for index in range(images):
        cx, cy = rng.uniform(10, 16), rng.uniform(10, side_px - 12)
        left, top = rng.integers(26, 32), rng.integers(4, side_px - 18)
        labels = np.zeros((side_px, side_px), np.uint8)
        labels[(x - cx) ** 2 + (y - cy) ** 2 < 64] = 1
        labels[top : top + 12, left : left + 14] = 2
        image = np.stack([40 + 60 * labels, 30 + 80 * (labels == 1), 200 - 50 * labels], -1)
        noisy = (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"shape_{index}.png")
        Image.fromarray(labels).save(folder / "masks" / f"shape_{index}.png")
    return folder


def tiny_settings(root: Path, **changes: Any) -> TrainingSettings:
    """Return settings over the set `root/shapes`; blocks can be replaced."""
    blocks: dict[str, Any] = {
        "data": DataSettings((SetSettings("shapes"),), str(root), held_out=0.34, min_area=20),
        "optimizer": OptimizerSettings(steps=6, rows=2, learning_rate=2e-3, warmup_steps=2),
        "model": ModelSettings("tiny", device="cpu"),
        "adapt": AdaptSettings(),
        "augment": AugmentSettings(("plain", "mirrored")),
        "prompts": PromptSettings({"centre": 0.4, "inner": 0.3, "jittered_box": 0.3}, rounds=2),
        "evaluate": EvaluateSettings(clicks=2, every=0),
        "cache": CacheSettings(str(root / "embeddings")),
        "checkpoint_every": 2,
    }
    return TrainingSettings(**{**blocks, **changes})


def tiny_video_settings(root: Path, **changes: Any) -> VideoTrainingSettings:
    """Return settings over the set `root/drawn`; blocks can be replaced."""
    drawn = SetSettings("drawn", "davis2017", split="val")
    blocks: dict[str, Any] = {
        "data": SetsSettings((drawn,), str(root), held_out=0.34),
        "optimizer": tiny_rates(VideoOptimizerSettings, steps=4),
        "model": VideoModelSettings("tiny", device="cpu"),
        "evaluate": VideoEvaluateSettings(("j",)),
        "clips": ClipSettings(frames=2, clicks=1, corrected_frames=1),
        "checkpoint_every": 2,
    }
    return VideoTrainingSettings(**{**blocks, **changes})


def tiny_rates(kind: type[OptimizerSettings], **changes: Any) -> Any:
    """Return an optimizer with which tiny models learn in a few steps, of images or of videos."""
    values = {"learning_rate": 2e-3, "warmup_steps": 2, "rows": 2, "ema": 0.9, "weight_decay": 0.0}
    return kind(**{**values, **changes})


@dataclass(frozen=True)
class TinyRun:
    """A kind of run: its data, its settings and its model.

    Attributes:
        draw: Draw the data below a folder.
        settings: As `tiny_settings`.
        optimizer: Class of that block.
        evaluate: Return that block for one cheap measure, with other values as they are named.
        model: Make the model; equal seeds give equal weights.
        measure: The cheap one.
    """

    draw: Callable[[Path], Any]
    settings: Callable[..., RunSettings]
    optimizer: type[OptimizerSettings]
    evaluate: Callable[..., Any]
    model: Callable[[], PretrainedModel]
    measure: str

    def quick(self, root: Path, *, evaluate: Any = None, **rates: Any) -> RunSettings:
        """Return settings with the cheap measure; `rates` change the optimizer."""
        return self.settings(
            root,
            optimizer=tiny_rates(self.optimizer, **{"steps": 4, **rates}),
            evaluate=self.evaluate(**(evaluate or {"every": 0})),
        )


RUNS = {
    "images": TinyRun(
        lambda root: draw_set(root / "shapes"),
        tiny_settings,
        OptimizerSettings,
        lambda **values: EvaluateSettings(("box",), **values),
        tiny_sam,
        "box",
    ),
    "video": TinyRun(
        lambda root: draw_davis(root / "drawn", ("a", "b", "c")),
        tiny_video_settings,
        VideoOptimizerSettings,
        lambda **values: VideoEvaluateSettings(("j",), **values),
        tiny_sam2,
        "j",
    ),
}
