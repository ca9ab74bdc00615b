from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from nexus.core.errors import ImageError, InputError
from nexus.data.tracks.track_rows import (
    CSV_COLUMNS,
    csv_row,
    json_row,
    make_row,
    read_track_csv,
    read_track_jsonl,
    read_track_png,
)

MASK = np.zeros((5, 7), np.bool_)
MASK[1:4, 2:6] = True
HEADER = ",".join(CSV_COLUMNS) + "\n"


# pycocotools' own use of NumPy, not ours.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_lines_are_plain_json_that_pycocotools_reads(tmp_path: Path) -> None:
    """Each line is a JSON object; its segmentation, box and area are those of pycocotools."""
    row = make_row(3, 0.12, 9, MASK, (0.123456789, float("nan")))
    (line,) = json_row(row).splitlines()
    record = json.loads(line)

    np.testing.assert_array_equal(coco.decode(record["segmentation"]), MASK)
    assert record["bbox"] == coco.toBbox(record["segmentation"]).tolist() == [2, 1, 4, 3]
    assert record["area"] == coco.area(record["segmentation"]) == 12
    assert (record["frame"], record["time_s"], record["object_id"]) == (3, 0.12, 9)
    assert record["iou_score"] == 0.123457
    assert record["object_score_logit"] is None


def test_csv_reads_with_the_standard_library() -> None:
    """The table has a header and a row of plain numbers for each object."""
    rows = [make_row(0, 0.0, 1, MASK, (0.5, -2.0)), make_row(0, 0.0, 2, ~MASK, (float("nan"),) * 2)]
    table = list(csv.DictReader((HEADER + "".join(map(csv_row, rows))).splitlines()))

    assert [table[0][name] for name in ("x0", "y0", "x1", "y1", "area")] == list("2164") + ["12"]
    assert table[0]["object_score_logit"] == "-2.0"
    assert table[1]["iou_score"] == ""


def test_an_empty_mask_has_a_box_of_zeros() -> None:
    """Nothing seen is a row with area 0, not a missing row."""
    row = make_row(0, 0.0, 1, np.zeros((3, 3), np.bool_), (0.0, -9.0))

    assert row.box_xyxy == (0, 0, 0, 0)
    assert row.area == 0
    assert not row.mask.any()


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    """A line that is cut off or of another kind is an error with its number."""
    row = make_row(0, 0.0, 1, MASK, (0.5, 1.0))
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text(json_row(row) + json_row(row)[:50])
    table.write_text(HEADER + csv_row(row) + "1,2,3\n")

    with pytest.raises(InputError, match=r"keys of a track in line 2 of '.*a\.jsonl', got '{") as e:
        list(read_track_jsonl(lines))
    assert "resume=True" in str(e.value.hint)
    with pytest.raises(InputError, match=r"row of 10 numbers in line 3 of '.*a\.csv', got '1,2,3'"):
        list(read_track_csv(table))
    table.write_text("a,b\n")
    with pytest.raises(InputError, match="expected a header frame,time_s,.* in line 1"):
        list(read_track_csv(table))
    with pytest.raises(InputError, match="got no file at"):
        list(read_track_jsonl(tmp_path / "missing.jsonl"))


def test_rows_of_a_table_have_no_mask(tmp_path: Path) -> None:
    """Asking a row read from CSV for its mask says where masks are."""
    table = tmp_path / "a.csv"
    table.write_text(HEADER + csv_row(make_row(4, 0.0, 1, MASK, (0.5, 1.0))))
    (row,) = read_track_csv(table)

    with pytest.raises(InputError, match="got frame 4 of object 1 without one") as caught:
        _ = row.mask
    assert "JSONL" in str(caught.value.hint)


def test_a_picture_is_no_label_map(tmp_path: Path) -> None:
    """A colour picture is refused as label map."""
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    with pytest.raises(ImageError, match="label map of one channel"):
        read_track_png(tmp_path / "a.png")
