"""One clip, from its prompts to the files of its objects; after an interruption it can go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError, NexusError, VideoError
from nexus.core.files import claimed, uninterrupted, write_text
from nexus.core.progress import Progress
from nexus.data.images.loading import DEFAULT_MAX_PIXELS
from nexus.data.tracks.track_writer import LARGEST_PNG_ID
from nexus.data.video.file_reader import import_av
from nexus.data.video.opening import VideoLike, open_video
from nexus.data.video.source import VideoSource
from nexus.predict.tracking.object_prompts import ObjectPrompt
from nexus.predict.tracking.outputs import TrackOutputs, refuse_results, result_files

if TYPE_CHECKING:
    from nexus.models.cv.sam2 import SAM2
    from nexus.predict.video.session import VideoSession

SETTINGS = "track.json"
_SESSION = "session.safetensors"
_FORMATS = ("png", "jsonl")


@dataclass(frozen=True)
class TrackOptions:
    """What becomes of a clip.

    Attributes:
        formats: Masks as "png" (label maps), "jsonl" (COCO RLE) or both; a CSV file is always made.
        overlay: Write the clip with its objects drawn on it.
        start: First frame; None is the first with a prompt, in reverse the last.
        stop: Frame to stop before; None is the end, in reverse before frame 0.
        reverse: Track back in time.
        input_side: Side of the model frame; None takes the model's.
        max_pixels: Largest height x width of a frame; None for no limit.
        resume: Go on with an interrupted run.
        overwrite: Remove the results of an earlier run.
    """

    formats: Sequence[str] = _FORMATS
    overlay: bool = True
    start: int | None = None
    stop: int | None = None
    reverse: bool = False
    input_side: int | None = None
    max_pixels: int | None = DEFAULT_MAX_PIXELS
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        unknown = ", ".join(name for name in self.formats if name not in _FORMATS)
        if unknown or not self.formats:
            raise InputError(f"expected formats among png, jsonl, got {unknown or 'none'}")
        if self.resume and self.overwrite:
            raise InputError("expected resume or overwrite, got both")

    def kept(self) -> dict[str, Any]:
        """Return, as JSON values, what a run that goes on has in common with the one before."""
        names = ("input_side", "start", "stop", "reverse", "overlay")
        formats = [name for name in _FORMATS if name in self.formats]
        return {**{name: getattr(self, name) for name in names}, "format": formats}


@dataclass(frozen=True)
class ClipTracks:
    """What there is of a clip.

    Attributes:
        name: What the clip is called.
        files: The files and folders of its results.
        report: What was asked for, and what was made; plain JSON values.
        message: Why it is less than what was asked for; None if it is not.
        hint: What to do about that.
    """

    name: str
    files: list[Path] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    hint: str | None = None


def open_clip(clip: VideoLike, options: TrackOptions) -> VideoSource:
    """Open a clip to track; errors as in `open_video`.

    Raises:
        VideoError: It cannot be read again.
        MissingDependencyError: PyAV is wanted, also for the overlay, and not installed.
    """
    if options.overlay:  # not after hours of work
        import_av()
    source = open_video(clip, max_pixels=options.max_pixels)
    if not source.seekable:
        raise VideoError(
            f"expected a clip that can be read again, got {source.name}",
            hint="collect its frames in a list, or use model.stream",
        )
    return source


class ClipRun:
    """One run over a clip: what it was asked for, checked, and what it has done so far.

    Args:
        source: The clip; closed when it has been tracked.
        prompts: At least one; from `join_prompts`.
        folder: For the results; made if needed.
        options: What becomes of the clip.
        model: What tells the model from others, as JSON values: a resumed run has the same.

    Attributes:
        settings: What a resumed run must have in common with the interrupted one.
        span: The frames to track, in order.
        failure: Why it ended early, or None.

    Raises:
        InputError: Prompts or options that do not fit the clip; or the folder holds results that
            would be destroyed, or nothing to resume, or a run that was asked for something else.
    """

    def __init__(
        self,
        source: VideoSource,
        prompts: Sequence[ObjectPrompt],
        folder: Path,
        options: TrackOptions,
        model: Mapping[str, Any],
    ) -> None:
        refuse_results(folder, source.path, options)
        self.source = source
        self.prompts = prompts
        self.folder = folder
        self.options = options
        self.failure: NexusError | None = None
        self._outputs: TrackOutputs | None = None
        largest = max(prompt.object_id for prompt in prompts)
        if "png" in options.formats and largest > LARGEST_PNG_ID:
            raise InputError(
                f"expected objects numbered 1 to {LARGEST_PNG_ID} for png, got {largest}",
                hint="the format jsonl alone takes any number",
            )
        for prompt in prompts:
            prompt.check(source)
        self.span = _span(prompts, source, options)
        self.settings = {
            "clip": source.name,
            "clip_digest": source.fingerprint(),
            **model,
            "prompts": [prompt.as_json() for prompt in prompts],
            **options.kept(),
        }
        if options.resume:
            former = self._read_settings()
            for name, value in self.settings.items():
                # The digest tells one clip from another, wherever it lies now.
                if name != "clip" and former.get(name) != value:
                    raise InputError(
                        f"expected {name} as in the run to go on with, {former.get(name)!r}, "
                        f"got {value!r}",
                        hint="resume with the same clip and options, or start afresh with "
                        "overwrite",
                    )

    def track(self, model: SAM2, *, progress: bool = False) -> ClipTracks:
        """Track through the span of frames, from where an earlier run has come to.

        Ctrl-C takes effect between frames: the files are whole and hold the same frames, and what
        the session remembers is kept for a run that resumes.

        Args:
            model: A model that tracks.
            progress: Show frames done and the time that is left on stderr.

        Raises:
            InputError: The model refuses a prompt.
            NexusError: Another run is using the folder.
            OSError: A file cannot be written.
        """
        saved = self.folder / _SESSION
        with claimed(self.folder):
            session, first = self._session(model, progress)
            with session:
                # Not before the prompts are taken: it removes the results of an earlier run.
                outputs = TrackOutputs(self.folder, self.source, self.options, progress)
                self._outputs = outputs
                if not self.options.resume:
                    saved.unlink(missing_ok=True)
                    self._write_settings(first)
                with outputs:
                    self._propagate(session, first, outputs, progress)
            asked_for, done = self.options.stop, len(outputs.written)
            cut_off = self.source.truncated and self.span.step > 0
            short = cut_off and (asked_for is None or asked_for > (self.source.frame_count or 0))
            if self.failure is None and (short or done < len(self.span)):
                self.failure = VideoError(
                    f"expected frames up to the end of {self.source.name}, got {done} good ones, "
                    "which were tracked",
                    hint=" ".join(self.source.notes) or None,
                )
            saved.unlink(missing_ok=True)
        return self.result()

    def result(self) -> ClipTracks:
        """Return what there is of the clip, also of a run that was interrupted."""
        name = self.source.path.name if self.source.path else self.source.name
        if self._outputs is None:
            return ClipTracks(name)
        files = result_files(self.folder)
        report = {
            **self.settings,
            "size_hw": list(self.source.size_hw),
            "rate": self.source.rate,
            "frames": len(self._outputs.written),
            "frames_asked_for": len(self.span),
            "files": [str(path) for path in files],
            "notes": [*self.source.notes, *self._outputs.notes],
        }
        told = (self.failure.message, self.failure.hint) if self.failure else ()
        return ClipTracks(name, files, report, *told)

    def _session(self, model: SAM2, progress: bool) -> tuple[VideoSession, int]:
        """Return a session that has all prompts, and the frame to go on from."""
        saved, side = self.folder / _SESSION, self.options.input_side
        if self.options.resume and saved.exists():
            session = model.load_session(saved, self.source, input_side=side)
            return session, self._read_settings()["next"]
        if self.options.resume and progress:
            print("no saved session: tracking again what is written already", file=sys.stderr)
        session = model.video(self.source, input_side=side)
        for prompt in self.prompts:
            session.add(**prompt.arguments())
        return session, self.span[0]

    def _propagate(
        self, session: VideoSession, first: int, outputs: TrackOutputs, progress: bool
    ) -> None:
        """Write what the session yields; Ctrl-C takes effect between frames."""
        done, total = len(outputs.written), len(self.span)
        if done >= total:
            return
        stop = None if self.span.stop < 0 else self.span.stop
        try:
            frames = session.propagate(start=first, stop=stop, reverse=self.span.step < 0)
            with Progress(total, label="track", done=done, shown=progress) as bar:
                while True:
                    with uninterrupted():
                        frame = next(frames, None)
                        if frame is None:
                            return
                        if outputs.write(frame):
                            bar.advance()
        except KeyboardInterrupt:
            done = len(outputs.written)
            if 0 < done < total:
                session.save(self.folder / _SESSION)
                self._write_settings(self.span[done])
            raise
        except VideoError as error:
            self.failure = error

    def _read_settings(self) -> dict[str, Any]:
        path = self.folder / SETTINGS
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected {str(path)!r} to say what was asked for, got {error}",
                hint="overwrite starts afresh",
            ) from error

    def _write_settings(self, following: int) -> None:
        text = json.dumps({**self.settings, "next": following}, indent=2)
        write_text(self.folder / SETTINGS, text + "\n")


def _span(prompts: Sequence[ObjectPrompt], source: VideoSource, options: TrackOptions) -> range:
    """Return the frames to track, in order; at least one."""
    count, first, stop = source.frame_count or 0, options.start, options.stop
    if first is None:
        first = (max if options.reverse else min)(prompt.frame_index for prompt in prompts)
    source.checked(first)
    if options.reverse:
        span = range(first, -1 if stop is None else stop, -1)
    else:
        if stop is not None and stop > count and not source.truncated:
            raise InputError(f"expected stop of at most {count}, the frames there are, got {stop}")
        span = range(first, count if stop is None else min(stop, count))
    if not span:
        order = "below" if options.reverse else "above"
        raise InputError(
            f"expected stop {order} the first frame to track, {first}, got {stop}",
            hint="start and stop are frame numbers, and the frame of stop is left out",
        )
    return span
