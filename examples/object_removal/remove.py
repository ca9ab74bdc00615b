"""Remove an object from a photograph: its mask, grown by some pixels, is painted over.

Needs opencv-python-headless. Inpainting continues what is around a hole: it suits small objects on
a calm ground, and smears large ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nexus.cli.main import run_script
from nexus.data.images.loading import load_image, write_picture
from nexus.data.images.masks import read_label_map
from nexus.ops.morphology import elliptic_kernel
from nexus.predict.oneshot import segment

METHODS = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}


def box(text: str) -> list[float]:
    """Parse x0,y0,x1,y1."""
    return [float(part) for part in text.split(",")]


def remove(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], grow_px: int, method: str
) -> NDArray[np.uint8]:
    """Return the image without what the mask covers.

    Args:
        image: (H, W, 3).
        mask: (H, W).
        grow_px: The rim of an object, and its blur, are often outside its mask.
        method: A key of `METHODS`.
    """
    kernel = elliptic_kernel(2 * grow_px + 1).astype(np.uint8)
    hole = cv2.dilate(mask.astype(np.uint8), kernel)
    return np.asarray(cv2.inpaint(image, hole, 5, METHODS[method]), np.uint8)


def main() -> None:
    """Write the picture without the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="for the model, pixels")
    where.add_argument("--mask", metavar="PNG", help="instead of a model's")
    parser.add_argument("--model", default="lite_medsam")
    parser.add_argument("--grow", type=int, default=7, help="pixels added around the mask")
    parser.add_argument("--method", choices=sorted(METHODS), default="telea")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    image = load_image(args.image)
    if image.dtype != np.uint8:
        parser.error(f"expected a picture of 8 bits a channel, got {image.dtype}")
    found = segment(image, box=args.box, model=args.model).best if args.box else None
    mask = read_label_map(args.mask).labels > 0 if found is None else found
    if mask.shape != image.shape[:2]:
        parser.error(f"expected a mask of {image.shape[:2]} (H, W), got {mask.shape}")
    print(write_picture(args.out, remove(image.astype(np.uint8), mask, args.grow, args.method)))


if __name__ == "__main__":
    run_script(main)
