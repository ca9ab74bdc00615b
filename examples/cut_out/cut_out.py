"""Cut an object out of a photograph: a PNG with alpha, its edge hard or soft."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from nexus.cli.main import run_script
from nexus.core.files import replacing
from nexus.data.images.loading import load_image
from nexus.data.images.masks import read_label_map
from nexus.ops.boxes import mask_to_box_xyxy
from nexus.predict.oneshot import segment


def box(text: str) -> list[float]:
    """Parse x0,y0,x1,y1."""
    return [float(part) for part in text.split(",")]


def cut_out(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], feather_px: float
) -> NDArray[np.uint8]:
    """Return (H, W, 4) RGBA of what the mask covers.

    Args:
        image: (H, W, 3).
        mask: (H, W), not empty.
        feather_px: Alpha falls from 1 to 0 over so many pixels across the mask's edge, half of
            them inside; 0 cuts hard. In and beyond that band colours are those of the nearest
            pixel further in, so that the old ground does not shine through.
    """
    if feather_px <= 0:
        return np.dstack([image, mask * np.uint8(255)])
    # To the nearest pixel on the other side; the edge lies half a pixel nearer.
    inside = ndimage.distance_transform_edt(mask) - 0.5
    outside = ndimage.distance_transform_edt(~mask) - 0.5
    depth = np.where(mask, inside, -outside)
    alpha = np.clip(0.5 + depth / feather_px, 0, 1)
    core = mask & (depth >= min(feather_px / 2, inside[mask].max()))
    nearest = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
    return np.dstack([image[tuple(nearest)], (alpha * 255).round().astype(np.uint8)])


def main() -> None:
    """Write the object as an RGBA PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="for the model, pixels")
    where.add_argument("--mask", metavar="PNG", help="instead of a model's")
    parser.add_argument("--model", default="lite_medsam")
    parser.add_argument("--feather", type=float, default=3, help="width of the edge, px; 0 is hard")
    parser.add_argument("--crop", action="store_true", help="leave out the empty ground around it")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    image = load_image(args.image)
    if image.dtype != np.uint8:
        parser.error(f"expected a picture of 8 bits a channel, got {image.dtype}")
    found = segment(image, box=args.box, model=args.model).best if args.box else None
    mask = read_label_map(args.mask).labels > 0 if found is None else found
    if mask.shape != image.shape[:2] or not mask.any():
        parser.error(f"expected a mask of {image.shape[:2]} with an object, got {mask.shape}")
    cut = cut_out(image.astype(np.uint8), mask, args.feather)
    if args.crop:
        x0, y0, x1, y1 = mask_to_box_xyxy(cut[..., 3]).astype(int)
        cut = cut[y0:y1, x0:x1]
    with replacing(args.out) as path:
        Image.fromarray(cut).save(path, format="PNG")
    print(args.out)


if __name__ == "__main__":
    run_script(main)
