"""Drawn images with rectangles as objects, and a model that answers a box with its rectangle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nexus.core.errors import ImageError
from nexus.core.types import ImageEmbedding, Masks
from nexus.data.truth.labelled import LabelledImage, LabelledVideo, Truth, truths_of_labels
from nexus.models.cv.sam import SAM
from nexus.ops.masks import mask_iou
from tests.models.tiny import TINY, TINY_POLICY

SIZE_HW = (48, 64)
BOXES = {1: (4, 6, 24, 26), 2: (30, 10, 60, 40)}
NAMES = {1: "cat", 2: "dog"}


def labels(shift: int = 0) -> np.ndarray:
    """Return the label map of the rectangles, moved to the right."""
    drawn = np.zeros(SIZE_HW, np.int32)
    for value, (x0, y0, x1, y1) in BOXES.items():
        drawn[y0:y1, x0 + shift : x1 + shift] = value
    return drawn


def picture() -> np.ndarray:
    """Return the image of the rectangles."""
    return np.repeat((labels() * 100)[..., None], 3, 2).astype(np.uint8)


def truths() -> list[Truth]:
    """Return the rectangles."""
    return truths_of_labels(labels(), NAMES)


def broken() -> np.ndarray:
    """Fail as an image does that is damaged."""
    raise ImageError("expected a picture, got noise", hint="mend it")


def images(count: int, bad: int | None = None, **fields: Any) -> list[LabelledImage]:
    """Return labelled images, all alike."""
    return [
        LabelledImage(f"{index}.png", broken if index == bad else picture, truths, **fields)
        for index in range(count)
    ]


def video(folder: Path, count: int = 4, first_frames: dict[int, int] | None = None) -> Any:
    """Write frames whose rectangles move a pixel a frame, and return the labelled video."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(count):
        frames.append(folder / f"{index:05}.png")
        Image.fromarray((labels(index) * 100).astype(np.uint8)).convert("RGB").save(frames[-1])
    first = first_frames or {1: 0, 2: 0}
    load = partial(moved_labels, first)
    return LabelledVideo("clip", tuple(frames), tuple(range(count)), first, load)


def moved_labels(first_frames: dict[int, int], index: int) -> np.ndarray:
    """Return the label map of a frame; an object is not there before it is given."""
    drawn = labels(index)
    for value, first in first_frames.items():
        if index < first:
            drawn[drawn == value] = 0
    return drawn


def perfect_tracker(shown: LabelledVideo) -> Iterator[np.ndarray]:
    """Yield the truth."""
    for index in range(len(shown.frames)):
        yield shown.load_labels(index)


class Draughtsman(SAM):
    """Fills boxes, and around each foreground click a square, less those of background clicks."""

    def __init__(self, reach: int = 10) -> None:
        torch.manual_seed(0)  # equal weights, so that a run can go on with another of it
        super().__init__(TINY, "draughtsman", TINY_POLICY)
        self.reach = reach
        self.asked: list[Any] = []
        self.encoded = 0

    def encode_image(self, image: Any, **options: Any) -> ImageEmbedding:
        """Count, and encode as a SAM does."""
        self.encoded += 1
        return super().encode_image(image, **options)

    def predict_batch(
        self, image_embedding: ImageEmbedding, prompts: Any, multimask_output: bool | None = None
    ) -> list[Masks]:
        """Draw each prompt."""
        self.asked.append((list(prompts), multimask_output))
        return [self._draw(prompt, image_embedding.original_size_hw) for prompt in prompts]

    def _draw(self, prompt: Any, size_hw: tuple[int, int]) -> Masks:
        mask = np.zeros(size_hw, bool)
        if prompt.box is not None:
            x0, y0, x1, y1 = (round(edge) for edge in prompt.box.tolist())
            mask[y0:y1, x0:x1] = True
        else:
            for (x, y), label in zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True):
                x0, y0 = (max(0, int(edge) + 1 - self.reach) for edge in (x, y))
                mask[y0 : int(y) + 1 + self.reach, x0 : int(x) + 1 + self.reach] = bool(label)
        logits = np.full((1, 16, 16), len(self.asked), np.float32)
        return Masks(mask[None], np.float32([0.5]), logits)


def plain_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the IoU of two masks."""
    return float(mask_iou(one[None], other[None])[0, 0])


def squeezed(text: str) -> str:
    """Return Markdown without what makes the columns of its tables even."""
    return re.sub(" {2,}", " ", text)
