"""`nexus generate`: folders of images in, a dataset of masks out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.core.errors import InputError, NexusError

_HELP_IMAGES = "Image files, and folders that are searched with the folders in them."
_HELP_OUT = "Folder for what is written; made if it is not there. Run again to go on."
_HELP_BOXES = (
    "A CSV table (image,x0,y0,x1,y1 and maybe category) or a COCO file of boxes in place of a grid "
    "of points: each gives one mask."
)
_HELP_MODEL = (
    "A name of `nexus models`; if not given, mobile_sam, which answers points, and with --boxes "
    "lite_medsam."
)
_HELP_CATEGORY = "What masks are called; with --boxes those whose box has no category."
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
_HELP_IOU = "Keep masks whose predicted IoU is above this; if not given 0.9, with --boxes no limit."
_HELP_STABILITY = "Keep masks whose stability score is above this."

_LIMITS = {
    "pred_iou_thresh": "--set pred_iou_thresh=VALUE",
    "stability_score_thresh": "--set stability_score_thresh=VALUE",
    "min_predicted_iou": "--min-predicted-iou VALUE",
    "min_stability_score": "--min-stability VALUE",
    "min_area": "--min-area PIXELS",
}
"""What lowers each limit that masks may not have cleared."""

# More may not fit into memory beside each other; whoever has it can ask for them.
_MOST_WORKERS = 4


def generate(
    images: Annotated[list[Path], Argument(metavar="IMAGES", help=_HELP_IMAGES)],
    out: Annotated[Path, Option(metavar="DIR", help=_HELP_OUT)],
    format: Annotated[str, Option(metavar="FORMAT", help=_HELP_FORMAT)] = "coco",
    model: Annotated[str | None, Option(metavar="NAME", help=_HELP_MODEL)] = None,
    boxes: Annotated[Path | None, Option(metavar="FILE", help=_HELP_BOXES)] = None,
    settings: Annotated[shared.Texts, Option("--set", metavar="NAME=VALUE", help=_HELP_SET)] = None,
    min_predicted_iou: Annotated[float | None, Option(help=_HELP_IOU)] = None,
    min_stability: Annotated[float | None, Option(help=_HELP_STABILITY)] = None,
    min_area: Annotated[int, Option(metavar="N", min=0, help=_HELP_AREA)] = 0,
    category: Annotated[str, Option(metavar="NAME", help=_HELP_CATEGORY)] = "object",
    pictures: Annotated[str, Option(metavar="HOW", help=_HELP_PICTURES)] = "copy",
    workers: Annotated[int | None, Option(metavar="N", min=1, help=_HELP_WORKERS)] = None,
    threads: Annotated[int, Option(metavar="N", min=1, help=_HELP_THREADS)] = 1,
    ray: shared.Ray = None,
    checkpoint: shared.Checkpoint = None,
    device: shared.Device = None,
    dtype: shared.Dtype = None,
    max_pixels: shared.MaxPixels = 100_000_000,
    overwrite: shared.Overwrite = False,
    as_json: Annotated[bool, Option("--json", help="Print report.json instead of paths.")] = False,
) -> None:
    """Find all masks in images, or those of boxes, and write a dataset of them.

    Into the folder of --out goes the dataset in the format asked for, report.json,
    contact_sheet.png with the best and the worst masks, and statistics.png. A run that was
    interrupted or killed goes on when it is started again; only the format, the limits and the
    category may be others then, for which nothing is generated anew.

    The paths of what was written go to stdout, one a line. An image that cannot be used is
    reported on stderr and in report.json, the others are done, and the exit code is 1. So it is
    where no mask is left at all; which threshold removed how many is said.
    """
    from nexus.predict.dataset.boxes import boxes_of_images, categories_with
    from nexus.predict.dataset.run import DatasetOptions, find_inputs_beside, run_dataset
    from nexus.predict.pool import Pool
    from nexus.predict.threads import available_cores

    usual = 0.9 if boxes is None else None
    options = DatasetOptions(
        format=format,
        min_predicted_iou=usual if min_predicted_iou is None else min_predicted_iou,
        min_stability_score=min_stability,
        min_area=min_area,
        categories=(category,),
        pictures=pictures,
        max_pixels=max_pixels or None,
    )
    model = model or ("mobile_sam" if boxes is None else "lite_medsam")
    _check_model(model, checkpoint, boxes)
    chosen = _checked_settings(settings or [], model, boxes)
    found = find_inputs_beside([*images] if len(images) > 1 else images[0], out)
    if boxes is not None:  # what is wrong with them is said before weights are fetched
        categories_with(boxes_of_images(boxes, found), options.categories)
    from nexus.models.cv import SAMAutomaticMaskGenerator

    generator = SAMAutomaticMaskGenerator(shared.loaded(model, checkpoint, device, dtype), **chosen)
    if workers is None:
        most = min(available_cores() // threads, _MOST_WORKERS)
        workers = max(1, most) if generator.model.device.type == "cpu" else 1
    pool = Pool(workers, threads, ray)
    result = run_dataset(
        found, out, generator, options, pool, boxes=boxes, progress=True, overwrite=overwrite
    )
    shared.print_results(result.files, result.report if as_json else None)
    if result.empty is not None and result.report["statistics"]["images"]:
        raise NexusError(result.empty, hint=_remedy(result.report["left_out"]))
    if result.skipped:
        raise typer.Exit(1)


def _check_model(model: str, checkpoint: Path | None, boxes: Path | None) -> None:
    """Refuse a model that knows boxes alone without any, before its weights are fetched."""
    from nexus.models.pretrained import policy_of_file
    from nexus.models.registry import model_spec
    from nexus.predict.dataset.boxes import check_prompted

    policy = model_spec(model).policy
    if checkpoint is not None and checkpoint.is_file():
        policy = policy_of_file(checkpoint, policy)  # fine-tuning may have taught it clicks
    hint = (
        "give it boxes with --boxes FILE, a CSV table with the columns image,x0,y0,x1,y1 or a COCO "
        "file, or take a model that answers points, such as --model mobile_sam"
    )
    check_prompted(policy, model, boxes is not None, hint)


def _checked_settings(given: Sequence[str], model: str, boxes: Path | None) -> dict[str, Any]:
    """Return the settings of the generator; wrong ones are refused before weights are fetched."""
    from nexus.models.pretrained import class_of
    from nexus.predict.automatic.settings import settings_for
    from nexus.predict.dataset.boxes import OPEN_SETTINGS

    chosen = parse_settings(given)
    if "output_mode" in chosen:
        raise InputError(
            f"expected no --set output_mode, got {chosen['output_mode']!r}",
            hint="how masks are stored goes by --format",
        )
    chosen["output_mode"] = "coco_rle"
    if boxes is not None:
        chosen = {**OPEN_SETTINGS, **_without_grid(chosen)}
    settings_for(class_of(model), chosen)
    return chosen


def _remedy(left_out: Mapping[str, int]) -> str | None:
    """Say which option lowers the limit that removed most."""
    limits = {name: count for name, count in left_out.items() if name in _LIMITS}
    name = max(limits, key=lambda name: limits[name], default=None)
    return None if name is None else f"lower it: {_LIMITS[name]}"


def _without_grid(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings unless one of them is about the grid, which boxes stand in for."""
    from nexus.predict.dataset.boxes import GRID_SETTINGS

    stray = sorted(GRID_SETTINGS & set(settings))
    if stray:
        raise InputError(
            f"expected no --set {stray[0]} with --boxes, got {settings[stray[0]]!r}",
            hint="it is about the grid of points, in place of which the boxes are",
        )
    return settings


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
