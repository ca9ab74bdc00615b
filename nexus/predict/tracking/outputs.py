"""What is written of a clip: tracks and an overlay video, which always hold the same frames."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError
from nexus.core.outputs import Outputs
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
    backward: a run that goes on first draws the frames of the earlier one again, from their saved
    masks, and a run back in time draws them all at its end.

    Args:
        outputs: The folder; `track_names` are reserved in it.
        goes_on: Take up the frames that are there; otherwise nothing of ours is.
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
        self,
        outputs: Outputs,
        goes_on: bool,
        source: VideoSource,
        options: TrackOptions,
        progress: bool = False,
    ) -> None:
        self.folder = outputs.folder
        self._outputs = outputs
        self.notes: tuple[str, ...] = ()
        self._source = source
        self._options = options
        self._progress = progress
        self._video: VideoWriter | None = None
        self._open = ExitStack()
        self._growing = [name for name in TRACK_FILES if name != "masks"]
        for name in self._growing:
            outputs.made(name, growing=True)
        formats, keep = (*options.formats, "csv"), outputs.others_in("masks")
        self._tracks = TrackWriter(
            self.folder, formats=formats, resume=goes_on, overwrite=not goes_on, keep=keep
        )
        outputs.made(LOG, growing=True)  # which was written anew, and has yet to grow
        self.written: set[int] = set(self._tracks.frames)

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
        self.close()

    def is_complete(self, span: range) -> bool:
        """Tell whether all files hold all frames of a span."""
        has_overlay = not self._options.overlay or (self.folder / OVERLAY).exists()
        return has_overlay and self.written.issuperset(span)

    def close(self) -> None:
        """Close the files of tracks, which grow no more; safe to call twice."""
        self._tracks.finalise()
        with suppress(OSError):  # of a full disk it has been said
            for name in self._growing:
                if (self.folder / name).exists():
                    self._outputs.made(name)

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
        frame, labels = self._source.frame(index), self._options.labels
        video.write(overlay_tracks(frame, *shown, labels=labels), self._source.time_s(index))


def result_files(folder: Path) -> list[Path]:
    """Return the files and folders of results that are in a folder."""
    return [folder / name for name in (OVERLAY, *TRACK_FILES) if (folder / name).exists()]


def track_names(options: TrackOptions, span: range = range(0)) -> list[str]:
    """Return the names of the files that a run over a span of frames may write for its results."""
    names = [OVERLAY] if options.overlay else []
    names += [name for name in TRACK_FILES if name != "masks"]
    if "png" in options.formats:
        names += [f"masks/{index:05}.png" for index in span]
    return names


def refuse_clip(folder: Path, clip: Path | None) -> None:
    """Refuse a folder in which a run would replace its clip, and a file that is no folder."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected the output to be a folder, got the file {str(folder)!r}")
    targets = {path.resolve() for path in (folder / OVERLAY, folder / "masks")}
    if clip is not None and clip.resolve() in targets:
        raise InputError(
            f"expected results that do not replace the clip, got {str(clip)!r} as both",
            hint="write into another folder",
        )
