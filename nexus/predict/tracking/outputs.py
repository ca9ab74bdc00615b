"""What is written of a clip: tracks and an overlay video, which always hold the same frames."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError
from nexus.core.progress import Progress
from nexus.core.types.masks import FrameMasks
from nexus.data.tracks.track_writer import LOG, TRACK_FILES, TrackWriter, overlay_tracks
from nexus.data.video.source import VideoSource
from nexus.data.video.video_writer import VideoWriter

if TYPE_CHECKING:
    from nexus.predict.tracking.clip_run import TrackOptions

OVERLAY = "overlay.mp4"


class TrackOutputs:
    """The files of one run; use it in a `with` block.

    Forward in time, the overlay is drawn as frames come. It cannot be added to later, nor written
    backward: a resumed run first draws the frames of the earlier one again, from their saved
    masks, and a run back in time draws them all at its end.

    Args:
        folder: Made if needed. Unless the run is resumed, results in it are removed.
        source: The clip.
        options: Which files, and in which direction the frames come.
        progress: Show on stderr how far drawing again is.

    Attributes:
        written: Numbers of the frames written, also by an earlier run.
        notes: What makes the files less than what was asked for.

    Raises:
        InputError: The folder holds tracks in other formats.
        OSError: The folder cannot be written.
    """

    def __init__(
        self, folder: Path, source: VideoSource, options: TrackOptions, progress: bool = False
    ) -> None:
        self.folder = folder
        self.notes: tuple[str, ...] = ()
        self._source = source
        self._options = options
        self._progress = progress
        self._video: VideoWriter | None = None
        self._open = ExitStack()
        formats, resume = (*options.formats, "csv"), options.resume
        self._tracks = TrackWriter(folder, formats=formats, resume=resume, overwrite=not resume)
        self.written: set[int] = set(self._tracks.frames)
        if not resume:
            (folder / OVERLAY).unlink(missing_ok=True)

    def __enter__(self) -> TrackOutputs:
        with ExitStack() as stack:
            stack.enter_context(self._tracks)
            if self._options.overlay and not self._options.reverse:
                self._video = self._overlay(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._video is not None and not self.written:
            self._video.discard()
        self._open.__exit__(*raised)
        if self._options.overlay and self._options.reverse and self.written:
            with ExitStack() as stack:
                self._overlay(stack)

    def write(self, frame: FrameMasks) -> bool:
        """Write one frame of a session, unless an earlier run has; return whether it was new."""
        if frame.index in self.written:
            return False
        shown = frame.object_ids, frame.masks, frame.iou_scores
        self._tracks.write(frame.index, frame.time_s, *shown, frame.object_score_logits)
        if self._video is not None:
            self._draw(self._video, frame.index, *shown)
        self.written.add(frame.index)
        return True

    def _overlay(self, stack: ExitStack) -> VideoWriter:
        """Start an overlay with the frames written already; the stack closes it.

        Until it holds those, an interrupt leaves what an earlier run made.
        """
        path, source = self.folder / OVERLAY, self._source
        video = VideoWriter(path, source.size_hw, rate=source.rate, keep_partial=False)
        self.notes = video.notes
        stack.enter_context(video)
        with Progress(len(self.written), label="overlay", shown=self._progress) as progress:
            for index in sorted(self.written):
                self._draw(video, index, *self._tracks.read(index))
                progress.advance()
        video.keep_partial = True
        return video

    def _draw(self, video: VideoWriter, index: int, *shown: Any) -> None:
        """Draw the numbers of the objects of a frame, their masks and their scores."""
        video.write(overlay_tracks(self._source.frame(index), *shown), self._source.time_s(index))


def result_files(folder: Path) -> list[Path]:
    """Return the files and folders of results that are in a folder."""
    return [folder / name for name in (OVERLAY, *TRACK_FILES) if (folder / name).exists()]


def refuse_results(folder: Path, clip: Path | None, options: TrackOptions) -> None:
    """Refuse a folder in which a run would destroy something, or find nothing to go on with."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected the output to be a folder, got the file {str(folder)!r}")
    targets = {path.resolve() for path in (folder / OVERLAY, folder / "masks")}
    if clip is not None and clip.resolve() in targets:
        raise InputError(
            f"expected results that do not replace the clip, got {str(clip)!r} as both",
            hint="write into another folder",
        )
    there = result_files(folder)
    if options.resume and folder / LOG not in there:
        raise InputError(
            f"expected results to go on with in {str(folder)!r}, got no {LOG} there",
            hint="the first run is without resume",
        )
    if there and not (options.resume or options.overwrite):
        raise InputError(
            f"expected a folder without results, got {str(folder)!r} with {there[0].name}",
            hint="resume goes on with an interrupted run, overwrite starts afresh",
        )
