"""`nexus segment`: boxes and points in, mask files, overlays and a COCO file out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from nexus.core.errors import InputError, NexusError

if TYPE_CHECKING:
    from nexus.core.types import Prompt
    from nexus.data.formats.coco_document import CocoImage
    from nexus.models.promptable import PromptableModel

_HELP_BOX = (
    "x0,y0,x1,y1 in pixels of the image, right and bottom edge exclusive. Each is one object."
)
_HELP_POINT = (
    "x,y or x,y,1 for a point on the object, x,y,0 for one beside it. All points together are one "
    "object; with exactly one --box they refine the object of that box."
)

_HELP_OUT = "Folder for what is written; made if it is not there."
_HELP_CHECKPOINT = "Weights to load instead of the published ones; --model says of which kind."
_HELP_DEVICE = "cpu, cuda, cuda:1 or mps; if not given, the best there is."
_HELP_DTYPE = "float32, bfloat16 or float16; if not given, float32."
_HELP_MAX_PIXELS = "Refuse images with more pixels; 0 for no limit."

_Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")]
_Out = Annotated[Path, typer.Option("--out", metavar="DIR", help=_HELP_OUT)]
_Model = Annotated[str, typer.Option("--model", metavar="NAME", help="A name of `nexus models`.")]
_Boxes = Annotated[list[str] | None, typer.Option("--box", metavar="BOX", help=_HELP_BOX)]
_Points = Annotated[list[str] | None, typer.Option("--point", metavar="POINT", help=_HELP_POINT)]
_Checkpoint = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help=_HELP_CHECKPOINT),
]
_Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help=_HELP_DEVICE)]
_Dtype = Annotated[str | None, typer.Option("--dtype", metavar="DTYPE", help=_HELP_DTYPE)]
_Several = Annotated[
    bool | None,
    typer.Option(
        "--multimask/--single",
        help="Take the best of three candidates, or the one answer. If neither is given: three "
        "for a single foreground point alone, else one.",
    ),
]
_MaxPixels = Annotated[
    int,
    typer.Option("--max-pixels", metavar="N", min=0, help=_HELP_MAX_PIXELS),
]
_Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document of the results instead of their paths."),
]


def segment(
    images: _Images,
    out: _Out,
    model: _Model = "lite_medsam",
    box: _Boxes = None,
    point: _Points = None,
    checkpoint: _Checkpoint = None,
    device: _Device = None,
    dtype: _Dtype = None,
    multimask: _Several = None,
    max_pixels: _MaxPixels = 100_000_000,
    json: _Json = False,
) -> None:
    """Segment objects in images, by box or point.

    The same prompts go to every image. For each image this writes into the folder of --out
    NAME.N.mask.png, the best mask of object N as 0 and 255 (boxes in the order given, then the
    points), and NAME.overlay.png to look at; and for the run annotations.json, a COCO file.
    NAME is the image's name without its ending, made different where two images share one.

    The paths of what was written go to stdout, one a line. An image that fails is reported on
    stderr, the others are done, and the exit code is 1.
    """
    from nexus import __version__

    prompts = _prompts(box or [], point or [])
    plan = _plan(images, out, len(prompts))

    def load() -> PromptableModel:
        from nexus.models.cv import load_model

        return load_model(model, checkpoint, device=device, dtype=dtype)

    _check_model(model)
    _make_folder(out)
    made_by = f"nexus {__version__} segment --model {model}"
    run = _Run(prompts, out, load, multimask, max_pixels or None, not json, made_by)
    try:
        run.segment_all(plan)
    finally:  # an interrupted run keeps what it has done
        run.write_annotations()
    if json:
        from json import dumps

        document = {"model": model, "checkpoint": checkpoint and str(checkpoint), **run.document()}
        typer.echo(dumps(document, indent=2))
    if run.failures:
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
    description: str
    model: PromptableModel | None = field(default=None, init=False)
    done: list[CocoImage] = field(default_factory=list, init=False)
    reports: list[dict[str, Any]] = field(default_factory=list, init=False)
    annotations_file: Path | None = field(default=None, init=False)

    @property
    def failures(self) -> int:
        """Images that failed so far."""
        return sum(report["error"] is not None for report in self.reports)

    def segment_all(self, plan: Sequence[tuple[Path, str]]) -> None:
        """Segment every image; one that fails is reported and passed over."""
        from tqdm import tqdm

        from nexus.data.images.loading import load_image

        hidden = not sys.stderr.isatty()
        for path, name in tqdm(plan, unit="image", file=sys.stderr, disable=hidden):
            try:
                image = load_image(path, max_pixels=self.max_pixels)
            except (NexusError, OSError, MemoryError) as error:
                self._fail(path, error)
                continue
            if self.model is None:  # after the first image that can be read: it may be large
                self.model = self.load()
            try:
                self._segment_one(self.model, path, name, image)
            except BrokenPipeError:
                raise
            except (NexusError, OSError, MemoryError) as error:
                self._fail(path, error)

    def _segment_one(self, model: PromptableModel, path: Path, name: str, image: Any) -> None:
        import numpy as np

        from nexus.data.formats.coco_document import CocoImage
        from nexus.data.images.loading import write_mask, write_picture
        from nexus.ops.draw import overlay

        embedding = model.encode_image(image, max_pixels=self.max_pixels)
        results = model.predict_batch(embedding, self.prompts, multimask_output=self.multimask)
        files, objects, annotations = [], [], []
        for number, (prompt, masks) in enumerate(zip(self.prompts, results, strict=True), 1):
            file = write_mask(self.out / f"{name}.{number}.mask.png", masks.best)
            annotation = masks.to_coco()[masks.best_index]
            objects.append(
                {
                    "object": number,
                    "prompt": _as_json(prompt),
                    "score": annotation["score"],
                    "box_xyxy": masks.boxes_xyxy[masks.best_index].tolist(),
                    "area": annotation["area"],
                    "rle": annotation["segmentation"],
                    "mask_file": str(file),
                    "notes": list(masks.notes),
                }
            )
            files.append(file)
            annotations.append(annotation)
        points = [prompt for prompt in self.prompts if prompt.points is not None]
        picture = overlay(
            image,
            np.stack([masks.best for masks in results]),
            boxes_xyxy=[prompt.box for prompt in self.prompts if prompt.box is not None],
            points_xy=points[0].points if points else None,
            labels=points[0].labels if points else None,
        )
        files.append(write_picture(self.out / f"{name}.overlay.png", picture))
        size_hw = (image.shape[0], image.shape[1])
        self.done.append(CocoImage(path.as_posix(), size_hw, annotations))
        self._report(path, list(size_hw), objects, str(files[-1]))
        if self.show_paths:
            for file in files:
                _say(str(file), sys.stdout)

    def _report(
        self,
        path: Path,
        size_hw: list[int] | None = None,
        objects: Sequence[dict[str, Any]] = (),
        overlay_file: str | None = None,
        error: dict[str, str | None] | None = None,
    ) -> None:
        self.reports.append(
            {
                "image": str(path),
                "size_hw": size_hw,
                "objects": list(objects),
                "overlay_file": overlay_file,
                "error": error,
            }
        )

    def _fail(self, path: Path, error: Exception) -> None:
        message, hint = str(error) or "out of memory", None
        if isinstance(error, NexusError):
            message, hint = error.message, error.hint
        report = {"message": message, "hint": hint}
        self._report(path, error=report)
        _say(f"error: {path}: {message}" + (f"\nhint: {hint}" if hint else ""), sys.stderr)

    def write_annotations(self) -> None:
        """Write annotations.json of the images done, if there are any."""
        from nexus.data.formats.coco_document import write_coco

        if self.done:
            self.annotations_file = write_coco(
                self.out / "annotations.json", self.done, description=self.description
            )
            if self.show_paths:
                _say(str(self.annotations_file), sys.stdout)

    def document(self) -> dict[str, Any]:
        """Return what --json prints about the images."""
        return {
            "images": self.reports,
            "annotations_file": self.annotations_file and str(self.annotations_file),
            "failed": self.failures,
        }


def _prompts(boxes: Sequence[str], points: Sequence[str]) -> list[Prompt]:
    """Return the objects asked for: one per box, then one of all points unless they refine a box.

    Raises:
        InputError: No prompt, or one that makes no sense.
    """
    from nexus.core.types import Prompt

    corners = [_numbers(text, (4,), "--box", "x0,y0,x1,y1") for text in boxes]
    clicks = [_numbers(text, (2, 3), "--point", "x,y or x,y,0 or x,y,1") for text in points]
    points_xy = [click[:2] for click in clicks]
    labels = [click[2] if len(click) == 3 else 1 for click in clicks]
    if not corners and not clicks:
        raise InputError("expected at least one --box or --point, got none")
    if len(corners) == 1 and clicks:
        return [Prompt(points_xy, labels, corners[0])]
    prompts = [Prompt(box=box) for box in corners]
    return [*prompts, Prompt(points_xy, labels)] if clicks else prompts


def _numbers(text: str, counts: tuple[int, ...], option: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts:
        raise InputError(f"expected {option} {form}, got {text!r}", hint="commas, without spaces")
    return numbers


def _plan(images: Sequence[Path], out: Path, objects: int) -> list[tuple[Path, str]]:
    """Pair every image, once, with a name of its own for what is written about it.

    Raises:
        InputError: What would be written would replace one of the images.
    """
    once = list(dict.fromkeys(images))
    from nexus.data.formats.dataset import own_names

    longer = [f"{image.resolve().parent.name}-{image.stem}" for image in once]
    names = own_names([image.stem for image in once], longer)
    plan = list(zip(once, names, strict=True))
    inputs = {image.resolve() for image in once}
    folder = out.resolve()
    endings = ["overlay.png", *(f"{number}.mask.png" for number in range(1, objects + 1))]
    for _, name in plan:
        for file in (folder / f"{name}.{ending}" for ending in endings):
            if file in inputs:
                raise InputError(
                    f"expected results that replace no input, got {str(file)!r} as both",
                    hint="write into another folder: --out DIR",
                )
    return plan


def _check_model(name: str) -> None:
    """Refuse a wrong name before any image is read."""
    from nexus.models.registry import model_spec

    model_spec(name)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected --out to be a folder, got {str(folder)!r}: {error}") from error


def _as_json(prompt: Prompt) -> dict[str, Any]:
    parts = {"points": prompt.points, "labels": prompt.labels, "box": prompt.box}
    return {name: part.tolist() for name, part in parts.items() if part is not None}


def _say(text: str, stream: TextIO) -> None:
    """Print a line at once, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=stream)
    stream.flush()
