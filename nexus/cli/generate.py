"""`nexus generate`: folders of images in, a dataset of masks out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.core.errors import InputError

_HELP_IMAGES = "Image files, and folders that are searched with the folders in them."
_HELP_OUT = "Folder for what is written; made if it is not there. Run again to go on."
_HELP_FORMAT = "coco, yolo, sa1b, voc, labelstudio, cvat, png or records."
_HELP_SET = (
    "A setting of the mask generator, such as points_per_side=16, pred_iou_thresh=0.8 or "
    "crop_n_layers=1. May be repeated."
)
_HELP_PICTURES = (
    "copy, link or none: what to do with the images in formats whose readers want them beside "
    "the masks (yolo, sa1b, voc)."
)
_HELP_WORKERS = "Processes. If not given, as many as there are cores, 4 at most; 1 on a GPU."
_HELP_THREADS = "Threads in each process; 1 if not given."
_HELP_AREA = "Keep masks of N pixels or more."
_HELP_IOU = "Keep masks whose predicted IoU is above this."
_HELP_STABILITY = "Keep masks whose stability score is above this."

# More may not fit into memory beside each other; whoever has it can ask for them.
_MOST_WORKERS = 4


def generate(
    images: Annotated[list[Path], Argument(metavar="IMAGES", help=_HELP_IMAGES)],
    out: Annotated[Path, Option(metavar="DIR", help=_HELP_OUT)],
    format: Annotated[str, Option(metavar="FORMAT", help=_HELP_FORMAT)] = "coco",
    model: shared.Model = "lite_medsam",
    settings: Annotated[shared.Texts, Option("--set", metavar="NAME=VALUE", help=_HELP_SET)] = None,
    min_predicted_iou: Annotated[float, Option(help=_HELP_IOU)] = 0.9,
    min_stability: Annotated[float | None, Option(help=_HELP_STABILITY)] = None,
    min_area: Annotated[int, Option(metavar="N", min=0, help=_HELP_AREA)] = 0,
    category: Annotated[str, Option(metavar="NAME", help="What all masks are called.")] = "object",
    pictures: Annotated[str, Option(metavar="HOW", help=_HELP_PICTURES)] = "copy",
    workers: Annotated[int | None, Option(metavar="N", min=1, help=_HELP_WORKERS)] = None,
    threads: Annotated[int, Option(metavar="N", min=1, help=_HELP_THREADS)] = 1,
    ray: shared.Ray = None,
    checkpoint: shared.Checkpoint = None,
    device: shared.Device = None,
    dtype: shared.Dtype = None,
    max_pixels: shared.MaxPixels = 100_000_000,
    as_json: Annotated[bool, Option("--json", help="Print report.json instead of paths.")] = False,
) -> None:
    """Find all masks in images and write a dataset of them.

    Into the folder of --out goes the dataset in the format asked for, report.json,
    contact_sheet.png with the best and the worst masks, and statistics.png. A run that was
    interrupted or killed goes on when it is started again; only the format, the limits and the
    category may be others then, for which nothing is generated anew.

    The paths of what was written go to stdout, one a line. An image that cannot be used is
    reported on stderr and in report.json, the others are done, and the exit code is 1.
    """
    from nexus.data.formats.dataset import find_images
    from nexus.models.registry import model_spec
    from nexus.predict.dataset.run import DatasetOptions, run_dataset
    from nexus.predict.pool import Pool
    from nexus.predict.threads import available_cores

    options = DatasetOptions(
        format=format,
        min_predicted_iou=min_predicted_iou,
        min_stability_score=min_stability,
        min_area=min_area,
        categories=(category,),
        pictures=pictures,
        max_pixels=max_pixels or None,
    )
    chosen = {**parse_settings(settings or []), "output_mode": "coco_rle"}
    model_spec(model)
    found = find_images([*images] if len(images) > 1 else images[0], leave_out=out)
    folder = out.resolve()
    for image in found:  # lest files be taken for the images, or replace them
        if folder in image.path.resolve().parents:
            raise InputError(
                "expected results in a folder without inputs, got "
                f"{str(image.path)!r} in {str(out)!r}",
                hint="write into another folder: --out DIR",
            )
    from nexus.models.cv import SAMAutomaticMaskGenerator

    generator = SAMAutomaticMaskGenerator(shared.loaded(model, checkpoint, device, dtype), **chosen)
    if workers is None:
        most = min(available_cores() // threads, _MOST_WORKERS)
        workers = max(1, most) if generator.model.device.type == "cpu" else 1
    pool = Pool(workers, threads, ray)
    result = run_dataset(found, out, generator, options, pool, progress=True)
    shared.print_results(result.files, result.report if as_json else None)
    if result.skipped:
        raise typer.Exit(1)


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs as a dict, values read as JSON where they are.

    Raises:
        InputError: A pair without "=".
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"expected --set NAME=VALUE, got {pair!r}")
        try:
            settings[name.strip()] = json.loads(value)
        except ValueError:
            settings[name.strip()] = value
    return settings
