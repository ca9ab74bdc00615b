"""A data set of drawn discs and squares, and settings small enough for every test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nexus.train.config import (
    AdaptSettings,
    AugmentSettings,
    CacheSettings,
    DataSettings,
    EvaluateSettings,
    ModelSettings,
    OptimizerSettings,
    PromptSettings,
    SetSettings,
    TrainingSettings,
)


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
