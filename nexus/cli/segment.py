"""`nexus segment`: boxes and points in, mask files, overlays and a COCO file out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.cli.prompts import image_prompts
from nexus.core.errors import InputError

if TYPE_CHECKING:
    from nexus.cli.sources import ImageSource
    from nexus.data.prompt_files import PromptsOfImage

_HELP_IMAGES = (
    "Image files, folders that are searched with the folders in them, patterns in quotes such as "
    "'scans/*.png', http and https addresses, and - for an image on stdin."
)
_HELP_BOX = "x0,y0,x1,y1 in pixels of the image, right and bottom exclusive. Each is one object."
_HELP_POINT = (
    "x,y or x,y,1 for a point on the object, x,y,0 for one beside it. All points together are one "
    "object; with exactly one --box they refine the object of that box."
)
_HELP_PROMPTS = (
    "Prompts for each image from a file, instead of --box and --point: a CSV table with the "
    "columns image and x0, y0, x1, y1 or x, y, label (and object, category), or a COCO file, of "
    "which the boxes are taken."
)
_HELP_MULTIMASK = (
    "Take the best of three candidates, or the one answer. If neither is given: three for a single "
    "foreground point alone, else one."
)
_HELP_LABELS = "Write number, category and score at each object of the overlays."
_HELP_OVERWRITE = (
    "Remove what Nexus made in the folder of --out and begin anew, and replace files of others "
    "that are in the way."
)


def segment(
    images: Annotated[list[str], Argument(metavar="IMAGE", help=_HELP_IMAGES)],
    out: shared.Out,
    model: shared.Model = "lite_medsam",
    box: Annotated[list[str] | None, Option(metavar="BOX", help=_HELP_BOX)] = None,
    point: Annotated[list[str] | None, Option(metavar="POINT", help=_HELP_POINT)] = None,
    prompts: Annotated[Path | None, Option(metavar="FILE", help=_HELP_PROMPTS)] = None,
    checkpoint: shared.Checkpoint = None,
    device: shared.Device = None,
    dtype: shared.Dtype = None,
    multimask: Annotated[bool | None, Option("--multimask/--single", help=_HELP_MULTIMASK)] = None,
    labels: Annotated[bool, Option("--labels", help=_HELP_LABELS)] = False,
    overwrite: Annotated[bool, Option("--overwrite", help=_HELP_OVERWRITE)] = False,
    max_pixels: shared.MaxPixels = 100_000_000,
    as_json: shared.Json = False,
) -> None:
    """Segment objects in images, by box or point.

    The same prompts go to every image, or each has its own in a file. For each image this writes
    into the folder of --out NAME.N.mask.png, the best mask of object N as 0 and 255 (boxes in the
    order given, then the points), and NAME.overlay.png to look at; and annotations.json, a COCO
    file. NAME is the image's name without its ending, made different where two images share one.

    Results of the same images in that folder are replaced, those of others stay. Files that Nexus
    did not make are not replaced without --overwrite.

    The paths of what was written go to stdout, one a line. An image that fails is reported on
    stderr, the others are done, and the exit code is 1.
    """
    from nexus.cli.segment_results import Results, refuse_inputs
    from nexus.cli.segment_run import Run
    from nexus.cli.sources import image_sources
    from nexus.core.outputs import output_folder
    from nexus.models.registry import model_spec

    everywhere = _same_for_all(box or [], point or [], prompts)
    model_spec(model)  # refuses a wrong name before any image is read
    sources = image_sources(images, leave_out=out)
    asked = [(source, everywhere) for source in sources] if everywhere else []
    if prompts is not None:
        asked = _from_file(prompts, sources)
    files_read = [] if prompts is None else [prompts]

    load = functools.cache(functools.partial(shared.loaded, model, checkpoint, device, dtype))
    with output_folder(out, verb="segment", overwrite=overwrite, clear=False) as outputs:
        if overwrite:
            inputs = {source.path for source in sources} | {path.resolve() for path in files_read}
            refuse_inputs(out, outputs.names, inputs)
            outputs.clear()
        with Results(outputs) as results:
            plan = results.plan(asked, files_read)
            run = Run(out, model, load, multimask, max_pixels or None, labels, not as_json)
            annotations_file = run.segment_all(plan, results)
        failed = sum(report["error"] is not None for report in run.reports)
        if as_json:
            document = {
                "model": model,
                "checkpoint": checkpoint and str(checkpoint),
                "images": run.reports,
                "annotations_file": annotations_file and str(annotations_file),
                "failed": failed,
            }
            shared.print_results([], document)
        if failed:
            raise typer.Exit(1)


def _same_for_all(
    boxes: Sequence[str], points: Sequence[str], file: Path | None
) -> PromptsOfImage | None:
    """Return what every image is asked for; None if a file says it for each.

    Raises:
        InputError: No prompt, one that makes no sense, or prompts from both.
    """
    from nexus.data.prompt_files import ImagePrompt, PromptsOfImage

    if file is not None:
        if boxes or points:
            given = "--box" if boxes else "--point"
            raise InputError(f"expected either --prompts or --box and --point, got {given} too")
        return None
    asked = image_prompts(boxes, points)
    return PromptsOfImage("", tuple(ImagePrompt(*each) for each in enumerate(asked, 1)))


def _from_file(
    file: Path, sources: Sequence[ImageSource]
) -> list[tuple[ImageSource, PromptsOfImage]]:
    """Pair the images that a file has prompts for with these; say which have none.

    Raises:
        InputError: The file is none of prompts, or has none for any of the images.
    """
    from nexus.data.prompt_files import read_image_prompts

    found, unused = read_image_prompts(file).for_images([source.label for source in sources])
    pairs = list(zip(sources, found, strict=True))
    asked = [(source, prompts) for source, prompts in pairs if prompts and prompts.objects]
    without = [source.title for source, prompts in pairs if not (prompts and prompts.objects)]
    if not asked:
        raise InputError(f"expected prompts in {str(file)!r} for the images, got none for any")
    if without:
        shared.note(f"note: without prompts in {str(file)!r}, passed over: {_some(without)}")
    if unused:
        shared.note(f"note: named in {str(file)!r}, but not among the images: {_some(unused)}")
    return asked


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
