"""A mask generator without weights: the masks of an image are the regions of equal colour."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


class Painter:
    """Finds every colour but the most frequent one; scores follow from the area.

    Args:
        settings: Told to the journal.
        slow_s: Waits before each image, so that a test can kill it on the way.
        crash_on: Colour at which the process dies.
    """

    def __init__(
        self,
        settings: dict[str, Any] | None = None,
        slow_s: float = 0.0,
        crash_on: int | None = None,
    ) -> None:
        self.settings = settings or {"points_per_side": 4}
        self.slow_s = slow_s
        self.crash_on = crash_on
        self.calls = 0

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Return a record for each colour, darkest first."""
        self.calls += 1
        time.sleep(self.slow_s)
        grey = np.asarray(image)[..., 0]
        values, counts = np.unique(grey, return_counts=True)
        records = []
        for value in values[np.arange(len(values)) != counts.argmax()]:
            if value == self.crash_on:
                os._exit(9)
            mask = grey == value
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x0, y0, x1, y1 = columns[0], rows[0], columns[-1], rows[-1]
            records.append(
                {
                    "segmentation": mask,
                    "area": int(mask.sum()),
                    "bbox": [int(x0), int(y0), int(x1 - x0), int(y1 - y0)],
                    "predicted_iou": float(np.float32(0.8 + 0.2 * mask.mean())),
                    "point_coords": [[float(x0), float(y0)]],
                    "stability_score": 0.97,
                    "crop_box": [0, 0, image.shape[1], image.shape[0]],
                }
            )
        return records


def draw_images(
    folder: Path, count: int, corrupt: int = 0, size_wh: tuple[int, int] = (48, 36)
) -> None:
    """Write `count` PNGs of rectangles that differ, of which `corrupt` are cut short."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    width, height = size_wh
    for index in range(count):
        picture = Image.new("RGB", size_wh, (200, 200, 200))
        draw = ImageDraw.Draw(picture)
        for shade in range(1 + index % 3):
            x, y = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
            w, h = (int(side) for side in random.integers(4, 12, 2))
            draw.rectangle((x, y, x + w, y + h), fill=(20 + 40 * shade,) * 3)
        path = folder / f"{index:04d}.png"
        picture.save(path)
        if corrupt and index % (count // corrupt) == 1:
            path.write_bytes(path.read_bytes()[:60])


def tree(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a result, its state folder apart."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".nexus" not in path.relative_to(folder).parts
    }


def main() -> None:
    """Generate a dataset: `python -m tests.predict.painter IN OUT FORMAT WORKERS SLOW_S`."""
    from nexus.predict.dataset.run import DatasetOptions, generate_dataset

    source, out, format_name, workers, slow_s = sys.argv[1:]
    warnings.simplefilter("ignore")
    generate_dataset(
        source,
        out,
        Painter(slow_s=float(slow_s)),
        min_predicted_iou=0.5,
        options=DatasetOptions(format=format_name),
        workers=int(workers),
        progress=True,
    )


if __name__ == "__main__":
    main()
