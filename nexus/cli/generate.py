"""`nexus generate`: folders of images in, a dataset of masks out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus.core.errors import InputError

if TYPE_CHECKING:
    from nexus.predict.dataset.run import DatasetResult, DatasetRun

_HELP_IMAGES = "Image files, and folders that are searched with the folders in them."
_HELP_OUT = "Folder for what is written; made if it is not there. Run again to go on."
_HELP_FORMAT = "coco, yolo, sa1b, voc, labelstudio, cvat, png or records."
_HELP_CHECKPOINT = "Weights to load instead of the published ones; --model says of which kind."
_HELP_SET = (
    "A setting of the mask generator, such as points_per_side=16, pred_iou_thresh=0.8 or "
    "crop_n_layers=1. May be repeated."
)
_HELP_CATEGORY = "What all masks are called."
_HELP_PICTURES = (
    "copy, link or none: what to do with the images in formats whose readers want them beside "
    "the masks (yolo, sa1b, voc)."
)
_HELP_WORKERS = (
    "Processes that generate. If not given, as many as there are cores, 4 at most; 1 on a GPU."
)
_HELP_THREADS = "Threads in each process; 1 if not given."
_HELP_RAY = (
    "Generate on the Ray cluster at this address; without an address, as the last option or before "
    "another, on one started on this machine."
)

# More may not fit into memory beside each other; whoever has it can ask for them.
_MOST_WORKERS = 4

_Images = Annotated[list[Path], typer.Argument(metavar="IMAGES", help=_HELP_IMAGES)]
_Out = Annotated[Path, typer.Option("--out", metavar="DIR", help=_HELP_OUT)]
_Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help=_HELP_FORMAT)]
_Model = Annotated[str, typer.Option("--model", metavar="NAME", help="A name of `nexus models`.")]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=_HELP_SET)]
_Limit = Annotated[
    float,
    typer.Option("--min-predicted-iou", help="Keep masks whose predicted IoU is above this."),
]
_Stability = Annotated[
    float | None,
    typer.Option("--min-stability", help="Keep masks whose stability score is above this."),
]
_Area = Annotated[
    int, typer.Option("--min-area", metavar="N", min=0, help="Keep masks of N pixels or more.")
]
_Category = Annotated[str, typer.Option("--category", metavar="NAME", help=_HELP_CATEGORY)]
_Pictures = Annotated[str, typer.Option("--pictures", metavar="HOW", help=_HELP_PICTURES)]
_Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help=_HELP_WORKERS)]
_Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help=_HELP_THREADS)]
_Ray = Annotated[str | None, typer.Option("--ray", metavar="[ADDRESS]", help=_HELP_RAY)]
_Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="FILE", help=_HELP_CHECKPOINT)
]
_Device = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="As in `nexus segment`."),
]
_Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="DTYPE", help="As in `nexus segment`."),
]
_MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels", metavar="N", min=0, help="Refuse images with more pixels; 0 for no limit."
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print report.json instead of paths.")]


def generate(
    images: _Images,
    out: _Out,
    format: _Format = "coco",
    model: _Model = "lite_medsam",
    settings: _Set = None,
    min_predicted_iou: _Limit = 0.9,
    min_stability: _Stability = None,
    min_area: _Area = 0,
    category: _Category = "object",
    pictures: _Pictures = "copy",
    workers: _Workers = None,
    threads: _Threads = 1,
    ray: _Ray = None,
    checkpoint: _Checkpoint = None,
    device: _Device = None,
    dtype: _Dtype = None,
    max_pixels: _MaxPixels = 100_000_000,
    as_json: _Json = False,
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
    from nexus.predict.dataset.run import DatasetOptions, DatasetRun

    options = DatasetOptions(
        format=format,
        min_predicted_iou=min_predicted_iou,
        min_stability_score=min_stability,
        min_area=min_area,
        categories=(category,),
        pictures=pictures,
        max_pixels=max_pixels or None,
    )
    chosen = parse_settings(settings or [])
    model_spec(model)
    found = find_images([*images] if len(images) > 1 else images[0], leave_out=out)
    _check_out(out, [image.path for image in found])
    load = {"checkpoint": checkpoint, "device": device, "dtype": dtype}
    run = DatasetRun(found, out, options)
    result = _run(run, model, load, chosen, (workers, threads, ray))
    _print(result, as_json)
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


def _run(
    run: DatasetRun,
    model: str,
    load: dict[str, Any],
    settings: dict[str, Any],
    force: tuple[int | None, int, str | None],
) -> DatasetResult:
    from nexus.models.cv import SAMAutomaticMaskGenerator, load_model
    from nexus.predict.dataset.jobs import cores
    from nexus.predict.dataset.settings import describe_generator

    loaded = load_model(model, **load)
    generator = SAMAutomaticMaskGenerator(loaded, **{**settings, "output_mode": "coco_rle"})
    workers, threads, ray = force
    if workers is None:
        workers = (
            max(1, min(cores() // threads, _MOST_WORKERS)) if loaded.device.type == "cpu" else 1
        )
    with run.open(describe_generator(generator)):
        run.generate(generator, workers=workers, threads=threads, ray=ray, progress=True)
        return run.write()


def _print(result: DatasetResult, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.report, indent=2))
        return
    for path in result.files:
        typer.echo(str(path))


def _check_out(out: Path, images: Sequence[Path]) -> None:
    """Refuse a folder whose files could be taken for, or replace, the images.

    Raises:
        InputError: An image lies in the output folder.
    """
    folder = os.path.realpath(out)
    for image in images:
        if os.path.realpath(image).startswith(folder + os.sep):
            raise InputError(
                f"expected results in a folder without inputs, got {str(image)!r} in {str(out)!r}",
                hint="write into another folder: --out DIR",
            )
