"""Show counted nuclei side by side: the image, the true outlines, the found ones."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.cli.main import run_script
from nexus.core.files import replacing
from nexus.data.images.loading import load_image, read_mask
from nexus.ops.draw import overlay

TRUE_COLOR, FOUND_COLOR = (255, 190, 40), (60, 200, 255)
GAP_PX = 6


def outlined(
    image: NDArray[np.uint8], labels: NDArray[np.integer], color: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return a picture with the outline of each object of a label map."""
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return overlay(image, masks, colors=[color], alpha=0)


def column(paths: tuple[Path, Path, Path], side_px: int) -> NDArray[np.uint8]:
    """Return an image, with its true and with its found outlines, one below the other.

    Args:
        paths: Of the image and of the two label maps.
        side_px: Size of the square shown: the top left of the image, small ones enlarged.
    """
    image = load_image(paths[0]).astype(np.float32)
    truth, found = (read_mask(path) for path in paths[1:])
    part = np.s_[: min(image.shape[:2]), : min(image.shape[:2])]
    # The square root shows dim nuclei beside bright ones.
    shown = np.sqrt((image - image.min()) / max(float(np.ptp(image)), 1.0))
    size = (side_px, side_px)
    picture = np.asarray(Image.fromarray((shown[part] * 255).astype(np.uint8)).resize(size))
    picture = picture & np.uint8(0xF8)  # 32 greys, since noise takes most of the bytes
    maps = [
        np.asarray(Image.fromarray(labels[part]).resize(size, Image.Resampling.NEAREST))
        for labels in (truth, found)
    ]
    cells = [
        outlined(picture, np.zeros(size, np.uint8), TRUE_COLOR),
        outlined(picture, maps[0], TRUE_COLOR),
        outlined(picture, maps[1], FOUND_COLOR),
    ]
    gap = np.full((GAP_PX, side_px, 3), 255, np.uint8)
    return np.vstack([cells[0], gap, cells[1], gap, cells[2]])


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", help="of images, without their ending")
    parser.add_argument("--images", type=Path, required=True, help="folder")
    parser.add_argument("--truth", type=Path, required=True, help="folder of label maps")
    parser.add_argument("--found", type=Path, required=True, help="folder of label maps")
    parser.add_argument("--side", type=int, default=220, help="of each cell, pixels")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    folders = (args.images, args.truth, args.found)
    columns = []
    for name in args.names:
        image, truth, found = (folder / f"{name}.png" for folder in folders)
        columns.append(column((image, truth, found), args.side))
        columns.append(np.full((len(columns[0]), GAP_PX, 3), 255, np.uint8))
    with replacing(args.out) as path:
        Image.fromarray(np.hstack(columns[:-1])).quantize(40).save(path, "PNG", optimize=True)
    print(args.out)


if __name__ == "__main__":
    run_script(main)
