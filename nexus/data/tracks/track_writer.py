"""Write the masks of tracked objects, frame by frame, so that a crash never leaves half a frame.

A folder of tracks holds, as asked for:

- `masks/00000.png`: label maps with the DAVIS palette, the object's number at each pixel;
- `tracks.jsonl` and `tracks.csv`: a row for each object of each frame, see `track_rows`;
- `frames.csv`, always: a row for each finished frame, written last, with the sizes the other files
  had then. What is not listed there is cut off when the folder is opened again.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.core.files import uninterrupted, write_text
from nexus.data.images.loading import write_png
from nexus.data.tracks.track_rows import (
    CSV_COLUMNS,
    csv_line,
    csv_row,
    json_row,
    make_row,
    read_track_png,
    row_of_json,
)
from nexus.ops.draw import overlay_objects
from nexus.ops.labels import label_palette, lowest_first, paint_labels

FORMATS = ("png", "jsonl", "csv")
LARGEST_PNG_ID = 255

LOG = "frames.csv"
"""The list of the frames that are in all the other files."""

_LOG_COLUMNS = ("frame", "time_s", "objects", "height", "width")
_TEXT = {"jsonl": "tracks.jsonl", "csv": "tracks.csv"}

TRACK_FILES = ("masks", *_TEXT.values(), LOG)
"""What there may be in a folder of tracks."""


class TrackWriter:
    """Write label maps, JSONL and CSV of tracked objects; all always hold the same frames.

    Ctrl-C takes effect between frames. After a crash, `resume=True` cuts what is unfinished off
    and goes on from there.

    Args:
        out_dir: Folder, made if needed.
        formats: Some of 'png', 'jsonl', 'csv'.
        resume: Go on in a folder that holds tracks already.
        overwrite: Remove tracks that the folder holds already.
        keep: Files in `masks` that are nobody's tracks: they are left alone.

    Raises:
        InputError: An unknown format; or the folder holds tracks, and neither `resume` nor
            `overwrite` is given; or the tracks to resume are in other formats.
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str],
        *,
        formats: Iterable[str] = FORMATS,
        resume: bool = False,
        overwrite: bool = False,
        keep: Iterable[Path] = (),
    ) -> None:
        self.out_dir = Path(out_dir)
        given = [formats] if isinstance(formats, str) else list(formats)
        unknown = [name for name in given if name not in FORMATS]
        if unknown or not given:
            raise InputError(
                f"expected formats among {', '.join(FORMATS)}, got {', '.join(unknown) or 'none'}"
            )
        self.formats = tuple(name for name in FORMATS if name in given)
        self._masks_dir = self.out_dir / "masks"
        self._others = {path.name for path in keep}
        self._columns = (*_LOG_COLUMNS, *(f"{name}_bytes" for name in self.formats))
        self._frames: dict[int, tuple[int, int]] = {}  # where the rows in JSONL start and end
        self._size_hw: tuple[int, int] | None = None
        self._files: dict[str, BinaryIO] = {}
        self._sizes: dict[str, int] = {}
        self._refuse_folder(resume, overwrite)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        if overwrite and not resume:
            for name in (LOG, *_TEXT.values()):  # the log first, without which nothing counts
                (self.out_dir / name).unlink(missing_ok=True)
            self._remove_masks()
        self._open(self._recover())

    def __enter__(self) -> TrackWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.finalise()

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of the frames written, also by earlier runs, in the order of writing."""
        return tuple(self._frames)

    @property
    def paths(self) -> list[Path]:
        """The files and folders of the results."""
        return [self.out_dir / _TEXT.get(name, "masks") for name in self.formats]

    def write(
        self,
        index: int,
        time_s: float,
        object_ids: Sequence[int],
        masks: ArrayLike,
        iou_scores: ArrayLike | None = None,
        object_score_logits: ArrayLike | None = None,
    ) -> None:
        """Write the objects of one frame to every format, or to none.

        Where masks overlap, the label map shows the object with the higher `iou_scores`, and the
        earlier one where they are equal; JSONL keeps every mask whole.

        Args:
            index: Frame number; each is written once, in any order.
            time_s: When the frame is shown.
            object_ids: K different whole numbers; 1 to 255 for PNG.
            masks: (K, H, W) bool; an array or a tensor.
            iou_scores: (K,) or None if not known.
            object_score_logits: (K,) or (K, 1), or None if not known.

        Raises:
            InputError: Something does not fit; nothing has been written.
            OSError: A file cannot be written; the frame is taken back.
        """
        if not self._files:
            raise InputError(f"expected open tracks, got {str(self.out_dir)!r}, finalised already")
        number, ids = self._checked(index, object_ids)
        arrays = _masks(masks, len(ids))
        if self._size_hw not in (None, arrays.shape[1:]):
            raise InputError(
                f"expected masks of {self._size_hw} (H, W) as in the frames before, "
                f"got {arrays.shape[1:]}"
            )
        ious = _scores(iou_scores, len(ids), "iou_scores")
        logits = _scores(object_score_logits, len(ids), "object_score_logits")
        time_s = round(float(time_s), 6)
        rows = [
            make_row(number, time_s, object_id, mask, (float(iou), float(logit)))
            for object_id, mask, iou, logit in zip(ids, arrays, ious, logits, strict=True)
        ]
        with uninterrupted():
            try:
                sizes = {}
                if "png" in self.formats:
                    sizes["png"] = self._write_png(number, paint_tracks(ids, arrays, ious))
                for name, as_line in (("jsonl", json_row), ("csv", csv_row)):
                    if name in self.formats:
                        sizes[name] = self._append(name, "".join(map(as_line, rows)))
                cells = (number, time_s, len(ids), *arrays.shape[1:], *sizes.values())
                sizes["log"] = self._append("log", csv_line(cells))
            except BaseException:
                self._take_back(number)
                raise
            self._frames[number] = self._sizes.get("jsonl", 0), sizes.get("jsonl", 0)
            self._sizes.update(sizes)
            self._size_hw = arrays.shape[1], arrays.shape[2]

    def read(self, number: int) -> tuple[list[int], NDArray[np.bool_], NDArray[np.float64]]:
        """Return the objects of a frame that has been written, also by an earlier run.

        Returns:
            K numbers of objects, masks (K, H, W), and IoU scores (K,). Without JSONL they come
            from the label map: of masks that overlap parts are lost, and scores are NaN.

        Raises:
            KeyError: The frame is not written.
            OSError: A file cannot be read.
        """
        start, end = self._frames[number]
        if "jsonl" not in self.formats:
            labels = read_track_png(self._png_path(number))
            ids = np.unique(labels[labels > 0])
            return ids.tolist(), labels == ids[:, None, None], np.full(len(ids), np.nan)
        with (self.out_dir / _TEXT["jsonl"]).open("rb") as file:
            file.seek(start)
            rows = [row_of_json(line) for line in file.read(end - start).splitlines()]
        masks = np.array([row.mask for row in rows], np.bool_).reshape(-1, *(self._size_hw or ()))
        scores = np.array([row.iou_score for row in rows], np.float64)  # NaN for None
        return [row.object_id for row in rows], masks, scores

    def finalise(self) -> list[Path]:
        """Close the files; safe to call twice. Return the files and folders of the results."""
        with uninterrupted():
            for file in self._files.values():
                file.close()
            self._files.clear()
        return self.paths

    def _refuse_folder(self, resume: bool, overwrite: bool) -> None:
        """Refuse to touch what an earlier run, or something else, has left in the folder."""
        log = self.out_dir / LOG
        there = [path for path in (log, *self.paths) if path.exists()]
        if there and not (resume or overwrite):
            raise InputError(
                f"expected a folder without tracks, got {str(self.out_dir)!r} with {there[0].name}",
                hint="resume=True goes on in it, overwrite=True starts afresh",
            )
        if there and resume and not log.exists():
            raise InputError(
                f"expected a folder with {LOG} to resume, got {str(self.out_dir)!r} without it",
                hint="overwrite=True starts afresh",
            )

    def _checked(self, index: int, object_ids: Sequence[int]) -> tuple[int, list[int]]:
        """Return the frame number and the objects' numbers as int."""
        try:
            number, ids = operator.index(index), [operator.index(each) for each in object_ids]
        except TypeError as error:
            raise InputError(
                f"expected whole numbers for a frame and its objects, got {index!r} and "
                f"{object_ids!r}"
            ) from error
        if number < 0 or number in self._frames:
            state = "written already" if number in self._frames else "negative"
            raise InputError(
                f"expected a frame that is not yet written, got {number}, which is {state}",
                hint="each frame is written once; look into writer.frames",
            )
        if len(set(ids)) < len(ids):
            raise InputError(f"expected different object_ids, got {ids}")
        wrong = [number for number in ids if not 1 <= number <= LARGEST_PNG_ID]
        if wrong and "png" in self.formats:
            raise InputError(
                f"expected object_ids in 1..{LARGEST_PNG_ID} for PNG label maps, got {wrong[0]}",
                hint="0 is the background of a label map and 255 its highest value; "
                "formats=('jsonl', 'csv') takes any number",
            )
        return number, ids

    def _png_path(self, number: int) -> Path:
        return self._masks_dir / f"{number:05}.png"

    def _write_png(self, number: int, labels: NDArray[np.uint8]) -> int:
        """Write a label map; return its size in bytes."""
        target = self._png_path(number)
        return write_png(target, labels, label_palette(), compress_level=3).stat().st_size

    def _append(self, name: str, text: str) -> int:
        """Write to the end of a file; return its new size in bytes."""
        file = self._files[name]
        file.write(text.encode())
        file.flush()
        return file.tell()

    def _take_back(self, number: int) -> None:
        """Remove what there is of an unfinished frame."""
        if "png" in self.formats:
            self._png_path(number).unlink(missing_ok=True)
        for name, file in self._files.items():
            file.truncate(self._sizes[name])
            file.seek(0, os.SEEK_END)

    def _remove_masks(self, keep: Iterable[Path] = ()) -> None:
        kept = {path.name for path in keep} | self._others
        for path in self._masks_dir.glob("*.png"):
            if path.name not in kept and path.stem.removeprefix(".").partition(".")[0].isdigit():
                path.unlink()

    def _recover(self) -> list[list[str]]:
        """Return the rows of the finished frames, and remove the label maps of others."""
        # The log alone is believed, as a frame's row is written after all else of the frame. Rows
        # count up to the first that is cut off, or that names more than the files hold: a crash of
        # the machine may lose what was written before the row. `_open` cuts off what lies beyond.
        log = self.out_dir / LOG
        text = log.read_bytes().decode() if log.exists() else ""
        rows = [line.split(",") for line in text.split("\n")[:-1]]
        if rows and rows[0] != [*self._columns]:
            raise InputError(
                f"expected {log.name} of {str(self.out_dir)!r} to list {', '.join(self.formats)}, "
                f"got columns {','.join(rows[0])}",
                hint="resume with the formats of the first run",
            )
        whole = list(itertools.takewhile(self._is_there, rows[1:]))
        if "png" in self.formats:
            self._remove_masks(self._png_path(int(row[0])) for row in whole)
        return whole

    def _is_there(self, row: list[str]) -> bool:
        """Say whether a row of the log is whole, and the files hold what it says."""
        cells = (row[0], *row[2:])
        if len(row) != len(self._columns) or not all(cell.isdecimal() for cell in cells):
            return False
        for name, size in zip(self.formats, map(int, row[len(_LOG_COLUMNS) :]), strict=True):
            path = self._png_path(int(row[0])) if name == "png" else self.out_dir / _TEXT[name]
            held = path.stat().st_size if path.exists() else -1
            if held < size or (name == "png" and held > size):
                return False
        return True

    def _open(self, rows: list[list[str]]) -> None:
        """Open the files behind the finished frames."""
        # The log comes first: files without it are not taken for tracks.
        write_text(self.out_dir / LOG, "".join(map(csv_line, [self._columns, *rows])))
        ends = [dict(zip(self._columns, row, strict=True)) for row in rows]
        for name in ("log", *(name for name in self.formats if name in _TEXT)):
            file = (self.out_dir / (LOG if name == "log" else _TEXT[name])).open("ab")
            if name != "log":
                file.truncate(int(ends[-1][f"{name}_bytes"]) if rows else 0)
            if name == "csv" and not rows:
                file.write(csv_line(CSV_COLUMNS).encode())
                file.flush()
            self._files[name], self._sizes[name] = file, file.seek(0, os.SEEK_END)
        start = 0
        for row in ends:
            end = int(row.get("jsonl_bytes", 0))
            self._frames[int(row["frame"])], start = (start, end), end
        if rows:
            self._size_hw = int(rows[-1][3]), int(rows[-1][4])


def paint_tracks(
    object_ids: Sequence[int], masks: NDArray[np.bool_], scores: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Paint masks (K, H, W) into one label map (H, W), the highest of the scores (K,) on top.

    Of equal scores the first object wins; NaN is lowest. Numbers are in 1..255, 0 is no object.
    """
    layers = ((object_ids[place], masks[place]) for place in lowest_first(scores))
    return paint_labels(layers, (masks.shape[1], masks.shape[2]), np.uint8)


def overlay_tracks(
    frame: NDArray[np.uint8],
    object_ids: Sequence[int],
    masks: NDArray[np.bool_],
    iou_scores: ArrayLike | None = None,
    *,
    labels: bool = False,
) -> NDArray[np.uint8]:
    """Draw masks (K, H, W) over their frame, each in the colour its number always has.

    The frame and what is returned are (H, W, 3) uint8 RGB; scores (K,) as in `paint_tracks`. With
    `labels` the number of each object and its score, if known, are written at it.

    Raises:
        InputError: Shapes that do not fit each other.
    """
    scores = _scores(iou_scores, len(object_ids), "iou_scores")
    stack = _masks(masks, len(object_ids))
    return overlay_objects(frame, object_ids, stack, scores, labels=labels)


def _masks(masks: Any, count: int) -> NDArray[np.bool_]:
    array = np.asarray(masks.detach().cpu() if hasattr(masks, "detach") else masks)
    if array.ndim != 3 or len(array) != count or 0 in array.shape[1:] or array.dtype != np.bool_:
        raise InputError(
            f"expected masks of shape (K, H, W) and bool, K = {count} as the object_ids, "
            f"got shape {array.shape} and {array.dtype}",
            hint="for logits pass logits > 0",
        )
    return array


def _scores(scores: Any, count: int, what: str) -> NDArray[np.float64]:
    """Return scores as (K,), NaN where they are not known."""
    if scores is None:
        return np.full(count, np.nan)
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu().double()
    array = np.asarray(scores, np.float64)
    if array.size != count:
        raise InputError(f"expected {what} of shape ({count},), got shape {array.shape}")
    return array.reshape(count)
