"""What `nexus track` writes: tracks and an overlay video, which always hold the same frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from nexus.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nexus.core.types.frame_masks import FrameMasks
    from nexus.data.tracks.writer import TrackWriter
    from nexus.data.video.opening import VideoSource
    from nexus.data.video.writer import VideoWriter

OVERLAY = "overlay.mp4"
_LOG = "frames.csv"

_Objects = tuple[Sequence[int], "NDArray[np.bool_]", "NDArray[np.floating]"]


class TrackOutputs:
    """The files of one run; use it in a `with` block.

    Forward in time, the overlay is drawn as frames come. It cannot be added to later, nor written
    backward: a resumed run first draws the frames of the earlier one again, from their saved
    masks, and a run back in time draws them all at its end.

    Args:
        out: Folder, made if needed.
        source: The clip.
        formats: Masks as 'png', 'jsonl' or both; there is always a CSV file.
        overlay: Write the video.
        reverse: The frames come last first.
        resume: Keep the frames an earlier run has written; else they are removed.

    Attributes:
        written: Numbers of the frames written, also by an earlier run.
        notes: What makes the files less than what was asked for.

    Raises:
        InputError: The folder holds tracks in other formats.
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        out: Path,
        source: VideoSource,
        formats: tuple[str, ...],
        *,
        overlay: bool,
        reverse: bool,
        resume: bool,
    ) -> None:
        from nexus.data.tracks.writer import TrackWriter

        self.out = out
        self.notes: tuple[str, ...] = ()
        self._source = source
        self._reverse = reverse
        self._overlay = overlay
        self._video: VideoWriter | None = None
        self._open = ExitStack()
        self._tracks: TrackWriter = TrackWriter(
            out, formats=(*formats, "csv"), resume=resume, overwrite=not resume
        )
        self.written: set[int] = set(self._tracks.frames)
        if not resume:
            (out / OVERLAY).unlink(missing_ok=True)

    def __enter__(self) -> TrackOutputs:
        with ExitStack() as stack:
            stack.enter_context(self._tracks)
            if self._overlay and not self._reverse:
                self._video = stack.enter_context(self._new_video())
                self._draw_again(self._video)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._video is not None and not self.written:
            self._video.discard()
        self._open.__exit__(kind, error, traceback)
        if self._overlay and self._reverse and self.written:
            with self._new_video() as video:
                self._draw_again(video)

    def write(self, frame: FrameMasks) -> None:
        """Write one frame of a session, unless an earlier run has."""
        if frame.index in self.written:
            return
        self._tracks.write(
            frame.index,
            frame.time_s,
            frame.object_ids,
            frame.masks,
            frame.iou_scores,
            frame.object_score_logits,
        )
        if self._video is not None:
            self._draw(self._video, frame.index, frame.object_ids, frame.masks, frame.iou_scores)
        self.written.add(frame.index)

    @property
    def files(self) -> list[Path]:
        """The files and folders of the results that are there."""
        overlay = self.out / OVERLAY
        return [path for path in (overlay, *self._tracks.paths, self.out / _LOG) if path.exists()]

    def _new_video(self) -> VideoWriter:
        """Start an overlay; until it holds what earlier runs did, an interrupt leaves theirs."""
        from nexus.data.video.writer import VideoWriter

        path, source = self.out / OVERLAY, self._source
        video = VideoWriter(path, source.size_hw, rate=source.rate, keep_partial=False)
        self.notes = video.notes
        return video

    def _draw_again(self, video: VideoWriter) -> None:
        """Draw the frames that are written already."""
        from nexus.core.progress import Progress

        saved = _saved_frames(self.out, self._tracks.formats)
        with Progress(len(self.written), label="overlay") as progress:
            for index in sorted(self.written):
                self._draw(video, index, *saved(index))
                progress.advance()
        video.keep_partial = True

    def _draw(
        self,
        video: VideoWriter,
        index: int,
        object_ids: Sequence[int],
        masks: NDArray[np.bool_],
        scores: NDArray[np.floating],
    ) -> None:
        from nexus.data.tracks.writer import overlay_tracks

        picture = overlay_tracks(self._source.frame(index), object_ids, masks, scores)
        video.write(picture, self._source.time_s(index))


def refuse_results(out: Path, clip: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder in which a run would destroy something, or find nothing to go on with.

    Raises:
        InputError: It holds results, and neither flag is set; or it is where the clip is; or there
            is nothing to resume; or it is no folder.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"expected --out to be a folder, got the file {str(out)!r}")
    targets = {path.resolve() for path in (out / OVERLAY, out / "masks")}
    if clip.resolve() in targets:
        raise InputError(
            f"expected results that do not replace the clip, got {str(clip)!r} as both",
            hint="write into another folder: --out DIR",
        )
    if resume and overwrite:
        raise InputError("expected --resume or --overwrite, got both")
    log = out / _LOG
    if resume and not log.exists():
        raise InputError(
            f"expected results to go on with in {str(out)!r}, got no {_LOG} there",
            hint="the first run is without --resume",
        )
    names = (OVERLAY, "masks", "tracks.csv", "tracks.jsonl", _LOG)
    there = [name for name in names if (out / name).exists()]
    if there and not (resume or overwrite):
        raise InputError(
            f"expected a folder without results, got {str(out)!r} with {there[0]}",
            hint="--resume goes on with an interrupted run, --overwrite starts afresh",
        )


def _saved_frames(out: Path, formats: tuple[str, ...]) -> Callable[[int], _Objects]:
    """Return what reads the objects of a frame back; of whole masks if there are such."""
    import numpy as np

    from nexus.data.tracks.rows import read_track_png

    if "jsonl" in formats:
        return _saved_rows(out / "tracks.jsonl")

    def of(index: int) -> _Objects:
        labels = read_track_png(out / "masks" / f"{index:05}.png")
        ids = np.unique(labels[labels > 0])
        return [int(one) for one in ids], labels == ids[:, None, None], np.full(len(ids), np.nan)

    return of


def _saved_rows(path: Path) -> Callable[[int], _Objects]:
    """Return what reads the rows of a frame from JSONL; only where each begins is kept."""
    import numpy as np

    from nexus.ops.rle import decode_rle

    starts: dict[int, int] = {}
    with path.open("rb") as file:
        position = 0
        for line in file:
            starts.setdefault(json.loads(line)["frame"], position)
            position += len(line)

    def of(index: int) -> _Objects:
        rows = []
        with path.open("rb") as file:
            file.seek(starts[index])
            for line in file:
                row = json.loads(line)
                if row["frame"] != index:
                    break
                rows.append(row)
        scores = [np.nan if row["iou_score"] is None else row["iou_score"] for row in rows]
        masks = np.stack([decode_rle(row["segmentation"]) for row in rows])
        return [row["object_id"] for row in rows], masks, np.array(scores, np.float64)

    return of
