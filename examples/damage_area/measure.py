"""Measure damage in a photograph in physical units: its area, its outlines and a picture.

The scale holds for a flat surface photographed straight on; at an angle no single scale does.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.cli.main import run_script
from nexus.data.images import load_image, read_label_map, write_picture
from nexus.ops.boxes import mask_to_box_xyxy
from nexus.ops.components import components, remove_small_regions
from nexus.ops.draw import overlay
from nexus.ops.polygons import mask_to_polygons
from nexus.predict.oneshot import segment


def box(text: str) -> list[float]:
    """Parse x0,y0,x1,y1."""
    return [float(part) for part in text.split(",")]


def reference(text: str) -> float:
    """Parse x0,y0,x1,y1,length_mm of a line, and return the mm of a pixel."""
    x0, y0, x1, y1, length_mm = (float(part) for part in text.split(","))
    if (x0, y0) == (x1, y1) or length_mm <= 0:
        raise ValueError
    return length_mm / math.hypot(x1 - x0, y1 - y0)


def report(mask: NDArray[np.bool_], mm_per_pixel: float) -> dict[str, Any]:
    """Return areas counted in pixels, and outlines (holes after what they lie in) in mm."""
    labels, areas = components(mask)
    parts = []
    for number in 1 + np.argsort(-areas[1:], kind="stable"):
        part = labels == number
        x0, y0, x1, y1 = (mask_to_box_xyxy(part).astype(np.float64) * mm_per_pixel).tolist()
        rings = [np.asarray(ring) * mm_per_pixel for ring in mask_to_polygons(part)]
        sizes = {"area_mm2": round(int(areas[number]) * mm_per_pixel**2, 3)}
        sizes |= {"width_mm": round(x1 - x0, 3), "height_mm": round(y1 - y0, 3)}
        parts.append(sizes | {"outlines_mm": [ring.round(3).tolist() for ring in rings]})
    area_mm2, share = int(areas[1:].sum()) * mm_per_pixel**2, round(float(mask.mean()), 6)
    totals = {"area_mm2": round(area_mm2, 3), "area_m2": round(area_mm2 / 1e6, 9)}
    return {"mm_per_pixel": mm_per_pixel, **totals, "share_of_picture": share, "parts": parts}


def main() -> None:
    """Write report.json and overlay.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    where, scale = (parser.add_mutually_exclusive_group(required=True) for _ in range(2))
    where.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="for the model, pixels")
    where.add_argument("--mask", metavar="PNG", help="instead of a model's")
    scale.add_argument("--mm-per-pixel", type=float, dest="scale")
    scale.add_argument("--reference", type=reference, dest="scale", metavar="X0,Y0,X1,Y1,MM")
    parser.add_argument("--model", default="lite_medsam")
    parser.add_argument("--min-area", type=int, default=50, help="smaller parts are left out, px")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    image = load_image(args.image)
    found = segment(image, box=args.box, model=args.model).best if args.box else None
    mask = read_label_map(args.mask).labels > 0 if found is None else found
    mask = remove_small_regions(mask, args.min_area)
    result = report(mask, args.scale)
    write_picture(args.out / "overlay.png", overlay(image, mask))
    (args.out / "report.json").write_text(json.dumps(result) + "\n", "utf-8")
    print(f"{result['area_mm2']:.1f} mm2, {result['area_m2']:.6f} m2, {len(result['parts'])} parts")


if __name__ == "__main__":
    run_script(main)
