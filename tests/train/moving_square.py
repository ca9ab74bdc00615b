"""A labelled video of a bright square that wanders over noise, and a second, darker one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nexus.data.truth.labelled import LabelledVideo

SIZE_HW = (48, 64)


def moving_square(
    folder: Path, count: int = 8, objects: int = 1, name: str = "square"
) -> LabelledVideo:
    """Draw it; object 1 moves to the right and down, object 2 stays at the bottom left."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for t in range(count):
        frame = random.integers(0, 80, (*SIZE_HW, 3), dtype=np.uint8)
        labels = _labels(t, objects)
        frame[labels == 1] = (250, 40, 60)
        frame[labels == 2] = (20, 120, 240)
        paths.append(folder / f"{t:05}.png")
        Image.fromarray(frame).save(paths[-1])
    first_frames = dict.fromkeys(range(1, objects + 1), 0)
    load = partial(_labels, objects=objects)
    return LabelledVideo(name, tuple(paths), tuple(range(count)), first_frames, load)


def draw_davis(root: Path, names: tuple[str, ...], frames: int = 3) -> None:
    """Draw moving squares in the layout of DAVIS 2017."""
    for name in names:
        images, labels = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        video = moving_square(images, frames, name=name)
        labels.mkdir(parents=True)
        for index, path in enumerate(video.frames):
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
            drawn = Image.fromarray(video.load_labels(index).astype(np.uint8), "L")
            drawn.putpalette([0, 0, 0, 128, 0, 0])
            drawn.save(labels / f"{index:05d}.png")
    listing = root / "ImageSets" / "2017" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("\n".join(names) + "\n")


def _labels(index: int, objects: int) -> np.ndarray:
    labels = np.zeros(SIZE_HW, np.int32)
    x, y = 4 + 4 * index, 4 + 2 * index
    labels[y : y + 18, x : x + 18] = 1
    if objects > 1:
        labels[34:46, 2:14] = 2
    return labels
