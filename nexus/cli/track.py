"""`nexus track`: a clip and prompts in; masks, a table and an overlay video of its objects out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nexus.cli.track_outputs import TrackOutputs, refuse_results
from nexus.cli.track_prompts import ObjectPrompt, check_prompts, parse_prompts
from nexus.core.errors import InputError, NexusError, UnknownModelError, VideoError
from nexus.core.files import replacing
from nexus.core.interrupts import uninterrupted

if TYPE_CHECKING:
    from nexus.data.video.opening import VideoSource
    from nexus.predict.video.session import VideoSession

_SETTINGS = "track.json"
_SESSION = "session.safetensors"
_FORMATS = ("png", "jsonl")
_FAMILIES = ("sam2", "edgetam")

_HELP_CLIP = "A video file, or a folder of frames in the order of their names."
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
_HELP_START = (
    "First frame to track; if not given, the first with a prompt, with --reverse the last."
)
_HELP_STOP = "Frame to stop before; if not given, all there are."
_HELP_SIDE = "Side of the model frame, smaller is faster; if not given, that of the training."
_HELP_RESUME = "Go on with an interrupted run: the same command with this flag."

_Clip = Annotated[Path, typer.Argument(metavar="CLIP", help=_HELP_CLIP)]
_Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for what is written; made if needed.")
]
_Model = Annotated[str, typer.Option("--model", metavar="NAME", help="A name of `nexus models`.")]
_Boxes = Annotated[list[str] | None, typer.Option("--box", metavar="BOX", help=_HELP_BOX)]
_Points = Annotated[list[str] | None, typer.Option("--point", metavar="POINT", help=_HELP_POINT)]
_Masks = Annotated[list[str] | None, typer.Option("--mask", metavar="MASK", help=_HELP_MASK)]
_Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="Weights to load instead of the published ones; --model says of which kind.",
    ),
]
_Format = Annotated[str, typer.Option("--format", metavar="FORMATS", help=_HELP_FORMAT)]
_Start = Annotated[int | None, typer.Option("--start", metavar="FRAME", min=0, help=_HELP_START)]
_Stop = Annotated[int | None, typer.Option("--stop", metavar="FRAME", min=0, help=_HELP_STOP)]
_Reverse = Annotated[bool, typer.Option("--reverse", help="Track back in time.")]
_Side = Annotated[int | None, typer.Option("--input-side", metavar="N", help=_HELP_SIDE)]
_Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="As in `nexus segment`.")
]
_Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="DTYPE", help="As in `nexus segment`.")
]
_MaxPixels = Annotated[
    int,
    typer.Option("--max-pixels", metavar="N", min=0, help="Refuse larger frames; 0 for no limit."),
]
_NoOverlay = Annotated[bool, typer.Option("--no-overlay", help="Write no video.")]
_Resume = Annotated[bool, typer.Option("--resume", help=_HELP_RESUME)]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Remove the results of an earlier run.")
]
_Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document of the results, not their paths.")
]


def track(
    clip: _Clip,
    out: _Out,
    model: _Model = "sam2.1_hiera_tiny",
    box: _Boxes = None,
    point: _Points = None,
    mask: _Masks = None,
    checkpoint: _Checkpoint = None,
    format: _Format = "png,jsonl",
    start: _Start = None,
    stop: _Stop = None,
    reverse: _Reverse = False,
    input_side: _Side = None,
    device: _Device = None,
    dtype: _Dtype = None,
    max_pixels: _MaxPixels = 100_000_000,
    no_overlay: _NoOverlay = False,
    resume: _Resume = False,
    overwrite: _Overwrite = False,
    as_json: _Json = False,
) -> None:
    """Track objects through a video, by box, point or mask.

    Into the folder of --out go overlay.mp4 to look at, with the times of the clip; masks/, label
    maps with the DAVIS palette; tracks.jsonl, masks as COCO RLE; tracks.csv, boxes, areas and
    scores; and frames.csv, the frames done.

    Ctrl-C finishes the frame at hand and leaves whole files of the frames done; the same command
    with --resume goes on. The paths of what was written go to stdout, one a line. A clip that is
    cut off is tracked as far as it goes, and the exit code is 1.
    """
    prompts = parse_prompts(box or [], point or [], mask or [])
    formats = _checked_formats(format, prompts)
    _check_model(model)
    refuse_results(out, clip, resume=resume, overwrite=overwrite)
    with _opened(clip, max_pixels or None, overlay=not no_overlay) as source:
        check_prompts(prompts, source)
        span = _span(prompts, source, start, stop, reverse)
        load = {"checkpoint": checkpoint, "device": device, "dtype": dtype}
        settings = _settings(source, model, checkpoint, input_side, prompts, (start, stop, reverse))
        settings |= {"format": list(formats), "overlay": not no_overlay}
        run = _Run(source, span, prompts, out, settings, load)
        try:
            run.follow(resume)
        finally:  # an interrupted run has results too
            run.print_results(as_json)
        if run.failed:
            raise typer.Exit(1)


@dataclass
class _Run:
    """One run of the verb: what it was asked for, and what it has done so far."""

    source: VideoSource
    span: range
    prompts: Sequence[ObjectPrompt]
    out: Path
    settings: dict[str, Any]
    load: dict[str, Any]
    outputs: TrackOutputs | None = field(default=None, init=False)
    failed: bool = field(default=False, init=False)

    def follow(self, resume: bool) -> None:
        """Track through the span of frames, from where an earlier run has come to."""
        if resume:
            self._compare_settings()
        session, first = self._session(resume)
        with session:
            # Not before the prompts are taken: it removes the results of an earlier run.
            self.outputs = TrackOutputs(
                self.out,
                self.source,
                tuple(self.settings["format"]),
                overlay=self.settings["overlay"],
                reverse=self.settings["reverse"],
                resume=resume,
            )
            if not resume:
                (self.out / _SESSION).unlink(missing_ok=True)
                self._write_settings(first)
            with self.outputs:
                self._propagate(session, first, self.outputs)
        self._check_end(len(self.outputs.written))
        (self.out / _SESSION).unlink(missing_ok=True)

    def _session(self, resume: bool) -> tuple[VideoSession, int]:
        """Return a session that has all prompts, and the frame to go on from."""
        from nexus.models.cv import SAM2, load_model

        model = cast(SAM2, load_model(self.settings["model"], **self.load))
        saved, side = self.out / _SESSION, self.settings["input_side"]
        if resume and saved.exists():
            session = model.load_session(saved, self.source, input_side=side)
            return session, self._read_settings()["next"]
        if resume:
            typer.echo("no saved session: tracking again what is written already", err=True)
        session = model.video(self.source, input_side=side)
        for prompt in self.prompts:
            session.add(**prompt.arguments())
        return session, self.span[0]

    def _propagate(self, session: VideoSession, first: int, outputs: TrackOutputs) -> None:
        """Write what the session yields; Ctrl-C takes effect between frames."""
        from nexus.core.progress import Progress

        if len(outputs.written) >= len(self.span):
            return
        stop = None if self.span.stop < 0 else self.span.stop
        try:
            frames = session.propagate(start=first, stop=stop, reverse=self.span.step < 0)
            with Progress(len(self.span), label="track", done=len(outputs.written)) as progress:
                while True:
                    with uninterrupted():
                        frame = next(frames, None)
                        if frame is None:
                            return
                        if frame.index not in outputs.written:
                            outputs.write(frame)
                            progress.advance()
        except KeyboardInterrupt:
            self._keep(session, len(outputs.written))
            raise
        except VideoError as error:
            self._fail(error)

    def _keep(self, session: VideoSession, done: int) -> None:
        """Save the session of an interrupted run, and say how to go on."""
        if 0 < done < len(self.span):
            session.save(self.out / _SESSION)
            self._write_settings(self.span[done])
        typer.echo(
            f"{done} of {len(self.span)} frames are done, and their files are whole\n"
            "hint: the same command with --resume goes on",
            err=True,
        )

    def _check_end(self, done: int) -> None:
        """Say so if there are fewer frames than asked for."""
        asked_for = self.settings["stop"]
        short = self.source.truncated and self.span.step > 0
        if done < len(self.span) or (
            short and (asked_for is None or asked_for > (self.source.frame_count or 0))
        ):
            self._fail(
                VideoError(
                    f"expected frames up to the end of {self.source.name}, got {done} good ones, "
                    "which were tracked",
                    hint=" ".join(self.source.notes) or None,
                )
            )

    def _fail(self, error: NexusError) -> None:
        if not self.failed:
            typer.echo(f"error: {error}", err=True)
        self.failed = True

    def _read_settings(self) -> dict[str, Any]:
        path = self.out / _SETTINGS
        try:
            settings: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected {str(path)!r} to say what was asked for, got {error}",
                hint="--overwrite starts afresh",
            ) from error
        return settings

    def _write_settings(self, following: int) -> None:
        with replacing(self.out / _SETTINGS) as temporary:
            text = json.dumps({**self.settings, "next": following}, indent=2)
            temporary.write_text(text + "\n", "utf-8")

    def _compare_settings(self) -> None:
        """Refuse to go on with a run that asked for something else.

        Raises:
            InputError: A setting differs.
        """
        former = self._read_settings()
        for name, value in self.settings.items():
            # The digest tells one clip from another, wherever it lies now.
            if name != "clip" and former.get(name) != value:
                raise InputError(
                    f"expected {name} as in the run to go on with, {former.get(name)!r}, "
                    f"got {value!r}",
                    hint="resume with the same clip and options, or start afresh: --overwrite",
                )

    def print_results(self, as_json: bool) -> None:
        """Print the paths of what is there, or all that is known about it."""
        if self.outputs is None:
            return
        files = self.outputs.files
        if not as_json:
            for path in files:
                typer.echo(str(path))
            return
        height, width = self.source.size_hw
        document = {
            **self.settings,
            "size_hw": [height, width],
            "rate": self.source.rate,
            "frames": len(self.outputs.written),
            "frames_asked_for": len(self.span),
            "files": [str(path) for path in files],
            "notes": [*self.source.notes, *self.outputs.notes],
        }
        typer.echo(json.dumps(document, indent=2))


def _settings(
    source: VideoSource,
    model: str,
    checkpoint: Path | None,
    input_side: int | None,
    prompts: Sequence[ObjectPrompt],
    bounds: tuple[int | None, int | None, bool],
) -> dict[str, Any]:
    """Return what a resumed run must have in common with the interrupted one."""
    start, stop, reverse = bounds
    return {
        "clip": source.name,
        "clip_digest": source.fingerprint(),
        "model": model,
        "checkpoint": checkpoint and str(checkpoint),
        "input_side": input_side,
        "prompts": [prompt.as_json() for prompt in prompts],
        "start": start,
        "stop": stop,
        "reverse": reverse,
    }


def _opened(clip: Path, max_pixels: int | None, *, overlay: bool) -> VideoSource:
    """Open the clip; one that cannot be used is an input that failed, not wrong usage."""
    from nexus.data.video.opening import open_video

    if overlay:  # not after hours of work
        from nexus.data.video.file_reader import import_av

        import_av()
    try:
        return open_video(clip, max_pixels=max_pixels)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _span(
    prompts: Sequence[ObjectPrompt],
    source: VideoSource,
    start: int | None,
    stop: int | None,
    reverse: bool,
) -> range:
    """Return the frames to track, in order.

    Raises:
        InputError: There is none.
    """
    prompted = [prompt.frame_index for prompt in prompts]
    count = source.frame_count or 0
    first = (max(prompted) if reverse else min(prompted)) if start is None else start
    source.checked(first)
    if reverse:
        span = range(first, -1 if stop is None else stop, -1)
    else:
        if stop is not None and stop > count and not source.truncated:
            raise InputError(
                f"expected --stop of at most {count}, the frames there are, got {stop}"
            )
        span = range(first, count if stop is None else min(stop, count))
    if not span:
        order = "below" if reverse else "above"
        raise InputError(
            f"expected --stop {order} the first frame to track, {first}, got {stop}",
            hint="--start and --stop are frame numbers, and the frame of --stop is left out",
        )
    return span


def _checked_formats(text: str, prompts: Sequence[ObjectPrompt]) -> tuple[str, ...]:
    """Return the formats of the masks.

    Raises:
        InputError: An unknown one, or one that cannot hold the objects' numbers.
    """
    formats = [name.strip() for name in text.split(",")]
    unknown = [name for name in formats if name not in _FORMATS]
    if unknown:
        raise InputError(f"expected --format png, jsonl or png,jsonl, got {text!r}")
    largest = max(prompt.object_id for prompt in prompts)
    if "png" in formats and largest > 255:
        raise InputError(
            f"expected objects numbered 1 to 255 for png, got {largest}",
            hint="--format jsonl takes any number",
        )
    return tuple(name for name in _FORMATS if name in formats)


def _check_model(name: str) -> None:
    """Refuse a wrong name, and a model that cannot track, before anything is read."""
    from nexus.models.registry import MODELS, model_spec

    if model_spec(name).family not in _FAMILIES:
        able = ", ".join(name for name, spec in MODELS.items() if spec.family in _FAMILIES)
        raise UnknownModelError(
            f"expected a model that tracks, got {name!r}, which is for images",
            hint=f"one of {able}",
        )
