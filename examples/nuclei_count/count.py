"""Count nuclei or cells in a folder of images: boxes by Otsu's threshold, masks by a model."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from examples.nuclei_count.masks import segment
from examples.nuclei_count.measure import COLUMNS, Score, rows, score, summary
from examples.nuclei_count.seeds import find_seeds
from nexus.cli.main import run_script
from nexus.core.files import replacing
from nexus.core.progress import Progress
from nexus.data.formats.dataset import find_images
from nexus.data.images.loading import load_image, write_mask, write_picture
from nexus.data.images.masks import read_label_map
from nexus.models.cv import load_model
from nexus.ops.draw import overlay


def main() -> None:
    """Write label maps, pictures and a table; with ground truth, print how good they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder")
    parser.add_argument("--truth", type=Path, help="folder of label maps, named as the images")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--model", default="lite_medsam")
    parser.add_argument("--min-area", type=int, default=20, help="leave out smaller seeds, pixels")
    parser.add_argument("--tile", type=float, default=8, help="in widths of a nucleus; 0 for none")
    parser.add_argument("--no-split", action="store_true", help="touching nuclei are one seed")
    args = parser.parse_args()
    model, images = load_model(args.model), find_images(args.images, leave_out=args.out)
    found, scores = [], dict[str, list[Score]](seeds=[], masks=[])
    with Progress(len(images), label="nuclei", unit="images") as progress:
        for item in images:
            image = load_image(item.path)
            seeds = find_seeds(image, min_area=args.min_area, split=not args.no_split)
            results = {"seeds": seeds, "masks": segment(model, image, seeds, args.tile)}
            for kind, labels in results.items():
                write_mask(args.out / kind / f"{item.name}.png", labels)
                if args.truth:
                    truth = read_label_map(args.truth / f"{item.name}.png").labels
                    scores[kind].append(score(labels, truth))
            masks = [results["masks"] == n for n in range(1, results["masks"].max() + 1)]
            # Stretched, since fluorescence is dark.
            shown = (image - np.float32(image.min())) / np.float32(np.ptp(image) or 1)
            write_picture(args.out / "overlays" / f"{item.name}.png", overlay(shown, masks))
            found += rows(item.name, results["masks"])
            print(f"{item.name}: {len(masks)}")
            progress.advance()
    with replacing(args.out / "nuclei.csv") as path, path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *found])
    for kind, each in scores.items():
        if each:
            print(kind, *(f"{name} {value:.3f}" for name, value in summary(each).items()), sep=", ")


if __name__ == "__main__":
    run_script(main)
