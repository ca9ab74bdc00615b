"""One clip, from its prompts to the files of its objects; after an interruption it goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError, NexusError, VideoError
from nexus.core.files import ANEW_HINT, uninterrupted, write_text
from nexus.core.log import is_quiet
from nexus.core.outputs import Outputs, output_folder
from nexus.core.steps import ProgressLike, steps_of
from nexus.data.images.loading import DEFAULT_MAX_PIXELS
from nexus.data.tracks.track_writer import LARGEST_PNG_ID, LOG
from nexus.data.video.file_reader import import_av
from nexus.data.video.opening import VideoLike, open_video
from nexus.data.video.source import VideoSource
from nexus.predict.tracking.object_prompts import ObjectPrompt
from nexus.predict.tracking.outputs import TrackOutputs, refuse_clip, result_files, track_names

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
        labels: Write number and score at each object of the overlay.
        start: First frame; None is the first with a prompt, in reverse the last.
        stop: Frame to stop before; None is the end, in reverse before frame 0.
        reverse: Track back in time.
        input_side: Side of the model frame; None takes the model's.
        max_pixels: Largest height x width of a frame; None for no limit.
    """

    formats: Sequence[str] = _FORMATS
    overlay: bool = True
    labels: bool = False
    start: int | None = None
    stop: int | None = None
    reverse: bool = False
    input_side: int | None = None
    max_pixels: int | None = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        unknown = ", ".join(name for name in self.formats if name not in _FORMATS)
        if unknown or not self.formats:
            raise InputError(f"expected formats among png, jsonl, got {unknown or 'none'}")
        if self.labels and not self.overlay:
            raise InputError("expected an overlay to write labels on, got labels without overlay")

    def kept(self) -> dict[str, Any]:
        """Return, as JSON values, what a run that goes on has in common with the one before."""
        names = ("input_side", "start", "stop", "reverse", "overlay", "labels")
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

    In a `with` block it holds its folder, in which it goes on where the same run has come to.

    Args:
        source: The clip; closed when it has been tracked.
        prompts: At least one; from `join_prompts`.
        folder: For the results; made if needed.
        options: What becomes of the clip.
        model: What tells the model from others, as JSON values: a run that goes on has the same.
        overwrite: Remove what Nexus made in the folder and begin anew, and replace files of others.

    Attributes:
        settings: What a run that goes on must have in common with the one before.
        span: The frames to track, in order.
        failure: Why it ended early, or None.

    Raises:
        InputError: Prompts or options that do not fit the clip, or results that would replace it.
    """

    def __init__(
        self,
        source: VideoSource,
        prompts: Sequence[ObjectPrompt],
        folder: Path,
        options: TrackOptions,
        model: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        refuse_clip(folder, source.path)
        self.source = source
        self.prompts = prompts
        self.folder = folder
        self.options = options
        self.failure: NexusError | None = None
        self.overwrite = overwrite
        self._outputs: Outputs | None = None
        self._held = ExitStack()
        self._tracks: TrackOutputs | None = None
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
            "clip": str(source.path) if source.path else source.name,
            "clip_digest": source.fingerprint(),
            **model,
            "prompts": [prompt.as_json() for prompt in prompts],
            **options.kept(),
        }

    def __enter__(self) -> ClipRun:
        """Hold the folder.

        Raises:
            InputError: It holds files that would be replaced, or a run that was asked for something
                else.
            NexusError: Another run is using it.
        """
        with ExitStack() as held:
            folder = output_folder(self.folder, verb="track", overwrite=self.overwrite, clear=False)
            outputs = held.enter_context(folder)
            state = [SETTINGS, _SESSION]
            outputs.reserve([*track_names(self.options, self.span), *state])
            if not self.overwrite:
                self._check_former(outputs)
            self._outputs, self._held = outputs, held.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._held.__exit__(*raised)

    def track(self, model: SAM2, *, progress: ProgressLike = False) -> ClipTracks:
        """Track through the span of frames, from where an earlier run has come to.

        Ctrl-C takes effect between frames: the files are whole and hold the same frames, and what
        the session remembers is kept for the run that goes on.

        Args:
            model: A model that tracks.
            progress: Show frames done and the time that is left on stderr.

        Raises:
            InputError: The model refuses a prompt.
            OSError: A file cannot be written.
        """
        outputs, saved = self._outputs, self.folder / _SESSION
        if outputs is None:
            raise InputError("expected a run that holds its folder, got one outside a with block")
        goes_on = not self.overwrite and bool(self._frames_logged())
        with ExitStack() as stack:
            if goes_on:
                self._tracks = self._opened(outputs, goes_on, stack, progress is True)
                if self._tracks.is_complete(self.span):
                    return self.result()
            session, first = self._session(model, goes_on, progress is True)
            with session:
                # Not before the prompts are taken: it removes the results of an earlier run.
                if self._tracks is None:
                    if self.overwrite:
                        outputs.clear()
                    else:
                        outputs.remove_stale()
                    self._write_settings(first)
                    self._tracks = self._opened(outputs, goes_on, stack, progress is True)
                with self._tracks:
                    self._propagate(session, first, self._tracks, outputs, progress)
        asked_for, done = self.options.stop, len(self._tracks.written)
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
        if self._tracks is None:
            return ClipTracks(name)
        files = result_files(self.folder)
        report = {
            **self.settings,
            "size_hw": list(self.source.size_hw),
            "rate": self.source.rate,
            "frames": len(self._tracks.written),
            "frames_asked_for": len(self.span),
            "files": [str(path) for path in files],
            "notes": [*self.source.notes, *self._tracks.notes],
        }
        told = (self.failure.message, self.failure.hint) if self.failure else ()
        return ClipTracks(name, files, report, *told)

    def _check_former(self, outputs: Outputs) -> None:
        """Refuse to go on with a run that was asked for something else."""
        if not set(outputs.names) - {SETTINGS} or self._frames_logged() == 0:
            return  # nothing is lost by beginning anew
        former = self._read_settings()
        for name, value in self.settings.items():
            # The digest tells one clip from another, wherever it lies now.
            if name != "clip" and former.get(name) != value:
                raise InputError(
                    f"expected {name} as in the run to go on with, {former.get(name)!r}, "
                    f"got {value!r}",
                    hint=ANEW_HINT,
                )

    def _frames_logged(self) -> int | None:
        """Return how many frames an earlier run has written; None if nothing says."""
        log = self.folder / LOG
        return max(0, log.read_bytes().count(b"\n") - 1) if log.exists() else None

    def _opened(
        self, outputs: Outputs, goes_on: bool, stack: ExitStack, progress: bool
    ) -> TrackOutputs:
        tracks = TrackOutputs(outputs, goes_on, self.source, self.options, progress)
        stack.callback(tracks.close)
        return tracks

    def _session(self, model: SAM2, goes_on: bool, progress: bool) -> tuple[VideoSession, int]:
        """Return a session that has all prompts, and the frame to go on from."""
        saved, side = self.folder / _SESSION, self.options.input_side
        if goes_on and saved.exists():
            session = model.load_session(saved, self.source, input_side=side)
            return session, self._read_settings()["next"]
        if goes_on and progress and not is_quiet():
            print("no saved session: tracking again what is written already", file=sys.stderr)
        session = model.video(self.source, input_side=side)
        for prompt in self.prompts:
            session.add(**prompt.arguments())
        return session, self.span[0]

    def _propagate(
        self,
        session: VideoSession,
        first: int,
        tracks: TrackOutputs,
        outputs: Outputs,
        progress: ProgressLike,
    ) -> None:
        """Write what the session yields; Ctrl-C takes effect between frames."""
        done, total = len(tracks.written), len(self.span)
        if done >= total:
            return
        stop = None if self.span.stop < 0 else self.span.stop
        try:
            frames = session.propagate(start=first, stop=stop, reverse=self.span.step < 0)
            with steps_of(progress, total, label="track", unit="frames", done=done) as bar:
                while True:
                    with uninterrupted():
                        frame = next(frames, None)
                        if frame is None:
                            return
                        if tracks.write(frame):
                            bar.advance()
        except KeyboardInterrupt:
            done = len(tracks.written)
            if 0 < done < total:
                session.save(self.folder / _SESSION)
                outputs.made(_SESSION)
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
                hint=ANEW_HINT,
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
