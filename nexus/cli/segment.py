"""`nexus segment`: boxes and points in, mask files, overlays and a COCO file out."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.cli.prompts import image_prompts
from nexus.core.errors import InputError, NexusError
from nexus.core.progress import Progress
from nexus.version import __version__

if TYPE_CHECKING:
    from nexus.core.types import Prompt
    from nexus.data.formats.coco import CocoImage
    from nexus.models.promptable import PromptableModel

_FAILURES = (NexusError, OSError, MemoryError)

_HELP_BOX = "x0,y0,x1,y1 in pixels of the image, right and bottom exclusive. Each is one object."
_HELP_POINT = (
    "x,y or x,y,1 for a point on the object, x,y,0 for one beside it. All points together are one "
    "object; with exactly one --box they refine the object of that box."
)
_HELP_MULTIMASK = (
    "Take the best of three candidates, or the one answer. If neither is given: three for a single "
    "foreground point alone, else one."
)


def segment(
    images: Annotated[list[Path], Argument(metavar="IMAGE", help="Image files.")],
    out: shared.Out,
    model: shared.Model = "lite_medsam",
    box: Annotated[list[str] | None, Option(metavar="BOX", help=_HELP_BOX)] = None,
    point: Annotated[list[str] | None, Option(metavar="POINT", help=_HELP_POINT)] = None,
    checkpoint: shared.Checkpoint = None,
    device: shared.Device = None,
    dtype: shared.Dtype = None,
    multimask: Annotated[bool | None, Option("--multimask/--single", help=_HELP_MULTIMASK)] = None,
    max_pixels: shared.MaxPixels = 100_000_000,
    as_json: shared.Json = False,
) -> None:
    """Segment objects in images, by box or point.

    The same prompts go to every image. For each image this writes into the folder of --out
    NAME.N.mask.png, the best mask of object N as 0 and 255 (boxes in the order given, then the
    points), and NAME.overlay.png to look at; and for the run annotations.json, a COCO file.
    NAME is the image's name without its ending, made different where two images share one.

    The paths of what was written go to stdout, one a line. An image that fails is reported on
    stderr, the others are done, and the exit code is 1.
    """
    from nexus.data.formats.coco import write_coco
    from nexus.models.registry import model_spec

    prompts = image_prompts(box or [], point or [])
    plan = _plan(images, out, len(prompts))

    load = functools.cache(functools.partial(shared.loaded, model, checkpoint, device, dtype))
    model_spec(model)  # refuses a wrong name before any image is read
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected --out to be a folder, got {str(out)!r}: {error}") from error
    run = _Run(prompts, out, load, multimask, max_pixels or None, show_paths=not as_json)
    annotations_file = None
    try:
        run.segment_all(plan)
    finally:  # an interrupted run keeps what it has done
        if run.done:
            made_by = f"nexus {__version__} segment --model {model}"
            annotations_file = write_coco(out / "annotations.json", run.done, description=made_by)
            run.show([annotations_file])
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


@dataclass
class _Run:
    """One run of the verb: what it was asked for, and what it has done so far."""

    prompts: Sequence[Prompt]
    out: Path
    load: Callable[[], PromptableModel]
    multimask: bool | None
    max_pixels: int | None
    show_paths: bool
    on_terminal: bool = field(default_factory=lambda: sys.stderr.isatty())
    done: list[CocoImage] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    def segment_all(self, plan: Sequence[tuple[Path, str]]) -> None:
        """Segment every image; one that fails is reported and passed over."""
        from nexus.data.images.loading import load_image

        with Progress(len(plan), label="segment", unit="images", shown=self.on_terminal) as bar:
            for path, name in plan:
                self.reports.append({"image": str(path), "size_hw": None, "objects": []})
                self.reports[-1] |= {"overlay_file": None, "error": None}
                try:
                    image = load_image(path, max_pixels=self.max_pixels)
                except _FAILURES as error:
                    self._fail(path, error, bar)
                else:
                    model = self.load()  # not before an image can be read: it may be large
                    try:
                        files = self._segment(model, path, name, image)
                    except _FAILURES as error:
                        self._fail(path, error, bar)
                    else:
                        self.show(files)
                bar.advance()

    def _segment(self, model: PromptableModel, path: Path, name: str, image: Any) -> list[Path]:
        """Write what is found in an image, and note it; return the files."""
        import numpy as np

        from nexus.data.formats.coco import CocoImage
        from nexus.data.images.loading import write_mask, write_picture
        from nexus.ops.draw import overlay

        embedding = model.encode_image(image, max_pixels=self.max_pixels)
        results = model.predict_batch(embedding, self.prompts, multimask_output=self.multimask)
        files, objects, annotations = [], [], []
        for number, (prompt, masks) in enumerate(zip(self.prompts, results, strict=True), 1):
            files.append(write_mask(self.out / f"{name}.{number}.mask.png", masks.best))
            annotations.append(masks.to_coco()[masks.best_index])
            parts = {"points": prompt.points, "labels": prompt.labels, "box": prompt.box}
            shown = {key: part.tolist() for key, part in parts.items() if part is not None}
            objects.append(
                {
                    "object": number,
                    "prompt": shown,
                    "score": annotations[-1]["score"],
                    "box_xyxy": masks.boxes_xyxy[masks.best_index].tolist(),
                    "area": annotations[-1]["area"],
                    "rle": annotations[-1]["segmentation"],
                    "mask_file": str(files[-1]),
                    "notes": list(masks.notes),
                }
            )
        points = next((prompt for prompt in self.prompts if prompt.points is not None), None)
        picture = overlay(
            image,
            np.stack([masks.best for masks in results]),
            boxes_xyxy=[prompt.box for prompt in self.prompts if prompt.box is not None],
            points_xy=points.points if points else None,
            labels=points.labels if points else None,
        )
        files.append(write_picture(self.out / f"{name}.overlay.png", picture))
        size_hw = (image.shape[0], image.shape[1])
        self.done.append(CocoImage(path.as_posix(), size_hw, annotations))
        found = {"size_hw": [*size_hw], "objects": objects, "overlay_file": str(files[-1])}
        self.reports[-1].update(found)
        return files

    def show(self, files: Sequence[Path]) -> None:
        """Print paths at once; the progress line, if there is one, makes room and comes back."""
        if self.on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        for file in files if self.show_paths else ():
            print(file, flush=True)

    def _fail(self, path: Path, error: Exception, bar: Progress) -> None:
        """Say that an image failed, and note it."""
        told = error if isinstance(error, NexusError) else NexusError(str(error) or "out of memory")
        self.reports[-1]["error"] = {"message": told.message, "hint": told.hint}
        if self.on_terminal:
            bar.say(f"error: {path}: {told}")
        else:
            print(f"error: {path}: {told}", file=sys.stderr, flush=True)


def _plan(images: Sequence[Path], out: Path, objects: int) -> list[tuple[Path, str]]:
    """Pair every image, once, with a name of its own for what is written about it."""
    from nexus.data.formats.dataset import own_names

    once = list(dict.fromkeys(images))
    longer = [f"{image.resolve().parent.name}-{image.stem}" for image in once]
    plan = list(zip(once, own_names([image.stem for image in once], longer), strict=True))
    inputs = {image.resolve() for image in once}
    endings = ["overlay.png", *(f"{number}.mask.png" for number in range(1, objects + 1))]
    for name, ending in itertools.product((name for _, name in plan), endings):
        file = out.resolve() / f"{name}.{ending}"
        if file in inputs:
            raise InputError(
                f"expected results that replace no input, got {str(file)!r} as both",
                hint="write into another folder: --out DIR",
            )
    return plan
