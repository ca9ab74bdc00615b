"""The rows of tracked objects in JSONL and CSV, and the label maps in PNG: reading, and forms.

JSONL and CSV hold a row for each object of each frame, in the order of tracking, which is not the
order of frames where objects were tracked backward:

- JSONL: `frame`, `time_s`, `object_id`, `segmentation` (compressed COCO RLE), `bbox` (x, y, width,
  height), `area`, `iou_score`, `object_score_logit`.
- CSV: `frame`, `time_s`, `object_id`, `x0`, `y0`, `x1`, `y1` (right and bottom edge exclusive),
  `area`, `iou_score`, `object_score_logit`.

Boxes are in pixels of the original frame and zeros for an empty mask. A score that is not known
is null, or an empty cell.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.json_text import dump_json
from nexus.data.images.loading import read_mask
from nexus.ops.boxes import tight_box
from nexus.ops.rle import decode_rle, encode_rle

_WHICH, _FIGURES = ("frame", "time_s", "object_id"), ("area", "iou_score", "object_score_logit")
CSV_COLUMNS = (*_WHICH, "x0", "y0", "x1", "y1", *_FIGURES)
_JSON_KEYS = (*_WHICH, "segmentation", "bbox", *_FIGURES)


@dataclass(frozen=True)
class TrackRow:
    """One object in one frame.

    Attributes:
        frame: Frame number.
        time_s: When the frame is shown.
        object_id: The caller's number of the object.
        box_xyxy: Tight box, right and bottom edge exclusive; zeros for an empty mask.
        area: Pixels in the mask.
        iou_score: The model's estimate of the mask's IoU; None if not known.
        object_score_logit: Above 0 if the model sees the object; None if not known.
        segmentation: Compressed COCO RLE; None in a row read from CSV.
    """

    frame: int
    time_s: float
    object_id: int
    box_xyxy: tuple[int, int, int, int]
    area: int
    iou_score: float | None
    object_score_logit: float | None
    segmentation: Mapping[str, Any] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool.

        Raises:
            InputError: The row was read from CSV, which has no masks.
        """
        if self.segmentation is None:
            raise InputError(
                f"expected a row with a mask, got frame {self.frame} of object {self.object_id} "
                "without one",
                hint="CSV has boxes only; masks are in the JSONL and PNG files",
            )
        return decode_rle(self.segmentation)


def make_row(
    frame: int, time_s: float, object_id: int, mask: NDArray[np.bool_], scores: tuple[float, float]
) -> TrackRow:
    """Measure a mask (H, W); scores are the IoU's and the object's, not finite where not known."""
    iou, logit = (float(f"{score:.6g}") if math.isfinite(score) else None for score in scores)
    area = int(np.count_nonzero(mask))
    return TrackRow(frame, time_s, object_id, tight_box(mask), area, iou, logit, encode_rle(mask))


def json_row(row: TrackRow) -> str:
    """Return a row as a line of JSON."""
    x0, y0, x1, y1 = row.box_xyxy
    record = {key: getattr(row, key, None) for key in _JSON_KEYS}
    return dump_json({**record, "bbox": [x0, y0, x1 - x0, y1 - y0]}) + "\n"


def csv_row(row: TrackRow) -> str:
    """Return a row as a line of CSV."""
    numbers = (row.area, row.iou_score, row.object_score_logit)
    return csv_line((row.frame, row.time_s, row.object_id, *row.box_xyxy, *numbers))


def csv_line(cells: Iterable[object]) -> str:
    """Return numbers and plain words as a line of CSV; None is an empty cell."""
    return ",".join("" if cell is None else str(cell) for cell in cells) + "\n"


def row_of_json(line: str | bytes) -> TrackRow:
    """Return the row of a line of JSON.

    Raises:
        ValueError: It is no JSON.
        KeyError: A key is missing.
        TypeError: It is JSON of something else.
    """
    record = json.loads(line)
    values = {key: record[key] for key in _JSON_KEYS}
    x, y, width, height = values.pop("bbox")
    return TrackRow(box_xyxy=(x, y, x + width, y + height), **values)


def read_track_jsonl(path: str | os.PathLike[str]) -> Iterator[TrackRow]:
    """Yield the rows of a JSONL file of tracks, with masks.

    Raises:
        InputError: There is no such file, or a line is not such a row.
    """
    for number, line in _lines(path):
        try:
            yield row_of_json(line)
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_line(path, number, "JSON object with the keys of a track", line) from error


def read_track_csv(path: str | os.PathLike[str]) -> Iterator[TrackRow]:
    """Yield the rows of a CSV file of tracks, without masks.

    Raises:
        InputError: There is no such file, or a line is not such a row.
    """
    for number, line in _lines(path):
        cells = line.split(",")
        if number == 1:
            if tuple(cells) != CSV_COLUMNS:
                raise _bad_line(path, number, f"header {','.join(CSV_COLUMNS)}", line)
            continue
        try:
            frame, time, object_id, *numbers, iou, logit = cells
            x0, y0, x1, y1, area = map(int, numbers)
            box, which = (x0, y0, x1, y1), (int(frame), float(time), int(object_id))
            scores = [float(score) if score else None for score in (iou, logit)]
            yield TrackRow(*which, box, area, scores[0], scores[1])
        except ValueError as error:
            raise _bad_line(path, number, f"row of {len(CSV_COLUMNS)} numbers", line) from error


def read_track_png(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read the label map of one frame.

    Returns:
        (H, W) uint8: the object's number at each pixel, 0 where there is none.

    Raises:
        ImageError: Not an image of one channel with 8 bits.
    """
    return read_mask(path).astype(np.uint8, copy=False)


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\n")
    except FileNotFoundError as error:
        raise InputError(f"expected a file of tracks, got no file at {str(path)!r}") from error


def _bad_line(path: str | os.PathLike[str], number: int, expected: str, line: str) -> InputError:
    return InputError(
        f"expected a {expected} in line {number} of {str(path)!r}, got {line[:80]!r}",
        hint="a line cut off by a crash is repaired by TrackWriter(folder, resume=True)",
    )
