"""`nexus track`: a clip and prompts in; masks, a table and an overlay video of its objects out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.cli.prompts import track_prompts
from nexus.core.errors import InputError, UnknownModelError
from nexus.core.words import counted

if TYPE_CHECKING:
    from nexus.predict.tracking import ClipTracks, ObjectPrompt
    from nexus.predict.tracking.clip_run import ClipRun

_HELP_CLIPS = (
    "A video file, or a folder of frames in the order of their names; or several, or folders of "
    "them."
)
_HELP_PROMPTS = (
    "A JSON or CSV file of prompts instead of --box, --point and --mask, for all clips or for each."
)
_HELP_BOX = (
    "ID:x0,y0,x1,y1 in pixels of the clip, right and bottom edge exclusive. ID is your number for "
    "the object. @FRAME at the end says on which frame, from 0; without it, the first."
)
_HELP_POINT = (
    "ID:x,y or ID:x,y,1 for a point on object ID, ID:x,y,0 for one beside it, each also with "
    "@FRAME. All points of an object on a frame go together, and with its --box."
)
_HELP_MASK = (
    "ID:FILE or ID:FILE@FRAME, a picture of the object's mask, or a label map in which it has "
    "the number ID."
)
_HELP_FORMAT = "png (label maps), jsonl (masks as COCO RLE) or both, with a comma."
_HELP_START = "First frame to track; if not given, the first with a prompt (--reverse: the last)."
_HELP_STOP = "Frame to stop before; if not given, all there are."
_HELP_SIDE = "Side of the model frame, smaller is faster; if not given, that of the training."
_HELP_LABELS = "Write ID and score at each object of the overlay."
_HELP_WORKERS = "Processes for several clips, each with its own clip; 1 if not given."


def track(
    clips: Annotated[list[Path], Argument(metavar="CLIPS", help=_HELP_CLIPS)],
    out: shared.Out,
    model: shared.Model = "sam2.1_hiera_tiny",
    box: Annotated[shared.Texts, Option(metavar="BOX", help=_HELP_BOX)] = None,
    point: Annotated[shared.Texts, Option(metavar="POINT", help=_HELP_POINT)] = None,
    mask: Annotated[shared.Texts, Option(metavar="MASK", help=_HELP_MASK)] = None,
    prompts: Annotated[Path | None, Option(metavar="FILE", help=_HELP_PROMPTS)] = None,
    checkpoint: shared.Checkpoint = None,
    format: Annotated[str, Option(metavar="FORMATS", help=_HELP_FORMAT)] = "png,jsonl",
    start: Annotated[int | None, Option(metavar="FRAME", min=0, help=_HELP_START)] = None,
    stop: Annotated[int | None, Option(metavar="FRAME", min=0, help=_HELP_STOP)] = None,
    reverse: Annotated[bool, Option("--reverse", help="Track back in time.")] = False,
    input_side: Annotated[int | None, Option(metavar="N", help=_HELP_SIDE)] = None,
    device: shared.Device = None,
    dtype: shared.Dtype = None,
    max_pixels: shared.MaxPixels = 100_000_000,
    no_overlay: Annotated[bool, Option("--no-overlay", help="Write no video.")] = False,
    labels: Annotated[bool, Option("--labels", help=_HELP_LABELS)] = False,
    overwrite: shared.Overwrite = False,
    resume: shared.Resume = False,
    workers: Annotated[int, Option(metavar="N", min=1, help=_HELP_WORKERS)] = 1,
    threads: shared.Threads = None,
    ray: shared.Ray = None,
    as_json: shared.Json = False,
) -> None:
    """Track objects through a video, by box, point or mask.

    Into the folder of --out go overlay.mp4 to look at, with the times of the clip; masks/, label
    maps with the DAVIS palette; tracks.jsonl, masks as COCO RLE; tracks.csv, boxes, areas and
    scores; and frames.csv, the frames done.

    Ctrl-C finishes the frame at hand and leaves whole files of the frames done; the same command
    goes on. The paths of what was written go to stdout, one a line. A clip that is
    cut off is tracked as far as it goes, and the exit code is 1.

    Several clips, or a folder of clips, have a folder each in that of --out. A clip that cannot be
    used is reported on stderr, and the others are done; the same command again goes on with those
    that are left.
    """
    from nexus.data.video.clip_files import find_clips, holds_clips
    from nexus.predict.pool import Pool
    from nexus.predict.tracking.clip_run import ClipRun, TrackOptions, open_clip
    from nexus.predict.tracking.many_clips import track_clips
    from nexus.predict.tracking.object_prompts import prompts_of_clips

    given = _given_prompts(prompts, [*track_prompts(box or [], point or [], mask or [])])
    options = TrackOptions(
        formats=tuple(name.strip() for name in format.split(",")),
        overlay=not no_overlay,
        labels=labels,
        start=start,
        stop=stop,
        reverse=reverse,
        input_side=input_side,
        max_pixels=max_pixels or None,
    )
    _check_model(model)  # said before anything is read
    load = functools.partial(shared.loaded, model, checkpoint, device, dtype)
    names = {"model": model, "checkpoint": checkpoint and str(checkpoint)}
    if len(clips) > 1 or holds_clips(clips[0]):
        pool = Pool(workers, threads, ray)
        found = find_clips(clips if len(clips) > 1 else clips[0], leave_out=out)
        each = prompts_of_clips(given, [(clip.file_name, clip.name) for clip in found])
        result = track_clips(
            *(load(), found, each, out, options, names, pool), progress=True, overwrite=overwrite
        )
        _print(result.clips, as_json)
        raise typer.Exit(1 if result.failures else 0)
    joined = prompts_of_clips(given, [(clips[0].name, clips[0].stem)])[0]
    try:
        source = open_clip(clips[0], options)
    except InputError as error:  # an input that failed, not wrong usage
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    with source, ClipRun(source, joined, out, options, names, overwrite) as run:
        _track_alone(run, load, as_json)


def _given_prompts(file: Path | None, typed: list[ObjectPrompt]) -> Path | list[ObjectPrompt]:
    """Return the file of prompts, or the prompts of the other options."""
    if file is not None and typed:
        raise InputError("expected --prompts, or --box, --point and --mask, got both")
    if file is None and not typed:
        raise InputError(
            "expected at least one --box, --point or --mask, got none",
            hint="--prompts FILE reads them from a file",
        )
    return file or typed


def _check_model(name: str) -> None:
    """Refuse a model that does not track."""
    from nexus.models.pretrained import class_of
    from nexus.models.registry import MODELS
    from nexus.models.tracking import TrackingModel

    if not issubclass(class_of(name), TrackingModel):
        able = ", ".join(other for other in MODELS if issubclass(class_of(other), TrackingModel))
        raise UnknownModelError(
            f"expected a model that tracks, got {name!r}, which is for images",
            hint=f"one of {able}",
        )


def _track_alone(run: ClipRun, load: Callable[[], Any], as_json: bool) -> None:
    """Track one clip, and say what became of it, also when it was interrupted."""
    try:
        run.track(load(), progress=True)
    except KeyboardInterrupt:
        report = run.result().report
        if report:
            asked_for = counted(report["frames_asked_for"], "frame")
            typer.echo(
                f"{report['frames']} of {asked_for} are done, and "
                "their files are whole\nhint: the same command goes on",
                err=True,
            )
        raise
    finally:  # an interrupted run has results too
        _print([run.result()], as_json, alone=True)
    if run.failure:
        typer.echo(f"error: {run.failure}", err=True)
        raise typer.Exit(1)


def _print(clips: Sequence[ClipTracks], as_json: bool, *, alone: bool = False) -> None:
    """Print the paths of what is there, or all that is known about it."""
    reports = [clip.report for clip in clips if clip.report]
    document: Any = None
    if as_json and not alone:
        failed = [
            {"clip": clip.name, "message": clip.message, "hint": clip.hint}
            for clip in clips
            if clip.message is not None
        ]
        document = {"clips": reports, "failed": failed}
    elif as_json and reports:
        document = reports[0]
    shared.print_results(
        [] if as_json else [path for clip in clips for path in clip.files], document
    )
