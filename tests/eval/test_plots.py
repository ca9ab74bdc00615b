from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nexus.eval.plots import main_metric, worst_rows, write_click_curve, write_histograms
from nexus.eval.plots import write_worst as write_sheet
from nexus.ops.rle import encode_rle
from tests.eval.scenes import broken, images, labels, video

GREEN, ORANGE, BLUE = (0, 190, 130), (255, 120, 0), (0, 120, 200)


def row(iou: float | None, object_id: int = 1, **more: Any) -> dict[str, Any]:
    """Return a row of the drawn image, whose prediction is two pixels aside."""
    prediction = encode_rle(np.roll(labels() == object_id, 2, 1))
    base = {"set": "all", "image": "0.png", "object_id": object_id, "protocol": "box"}
    return {**base, "iou": iou, "prediction": prediction, **more}


def height(path: Path) -> int:
    """Return how high a picture is."""
    with Image.open(path) as picture:
        return picture.height


def pixels(path: Path, color: tuple[int, int, int]) -> np.ndarray:
    """Return where a picture has a colour."""
    return (np.asarray(Image.open(path)) == color).all(2)


def test_bars_are_where_the_values_are(tmp_path: Path) -> None:
    """Low values fill bars on the left, and each protocol has a panel."""
    low = write_histograms(tmp_path / "low.png", [row(0.01), row(0.02)])
    both = write_histograms(tmp_path / "both.png", [row(0.99), row(0.5, protocol="click")])
    columns = np.flatnonzero(pixels(low, BLUE).any(0))

    assert columns.max() < 100
    assert height(both) == 2 * height(low)
    assert pixels(both, BLUE)[:300].any(0).argmax() > 400


def test_the_curve_rises_with_its_values(tmp_path: Path) -> None:
    """A rising curve starts lower than it ends; one click is a dot."""
    drawn = pixels(write_click_curve(tmp_path / "c.png", [0.2, 0.5, 0.9], "three"), BLUE)
    columns = np.flatnonzero(drawn.any(0))
    heights = [drawn[:, column].argmax() for column in columns]
    dot = pixels(write_click_curve(tmp_path / "d.png", [0.5], "one"), BLUE)

    assert heights[0] > heights[-1]
    assert 0 < dot.sum() < 60


def test_the_worst_come_first() -> None:
    """Rows are sorted by their figure; what is not defined is not shown."""
    rows = [row(0.9), row(0.1), row(None), row(0.0, protocol="click"), row(0.5)]

    assert [each["iou"] for each in worst_rows(rows, "box")] == [0.1, 0.5, 0.9]
    assert len(worst_rows(rows, "box", count=2)) == 2
    assert main_metric("vos") == "j_and_f"


def test_outlines_of_truth_and_prediction_are_drawn(tmp_path: Path) -> None:
    """A tile shows both outlines, the truth's starting further to the left."""
    sources = {("all", "0.png"): images(1)[0]}
    path = write_sheet(tmp_path / "worst.png", [row(0.5)], sources)
    green, orange = (np.flatnonzero(pixels(path, color).any(0)) for color in (GREEN, ORANGE))

    assert len(green)
    assert len(orange)
    assert green.min() < orange.min()


def test_the_worst_frame_of_a_video_is_drawn(tmp_path: Path) -> None:
    """A video's tile is of the frame its row names."""
    clip = video(tmp_path / "clip")
    one = row(None, image="clip", protocol="vos", j_and_f=0.5, worst_frame=3)
    path = write_sheet(tmp_path / "worst.png", [one], {("all", "clip"): clip})

    assert pixels(path, GREEN).any()


def test_an_image_that_is_gone_is_grey(tmp_path: Path) -> None:
    """The sheet is drawn although an image cannot be read any more, or is not known."""
    gone = dataclasses.replace(images(1)[0], load_image=broken)
    paths = [
        write_sheet(tmp_path / f"{number}.png", [row(0.5)], sources)
        for number, sources in enumerate(({}, {("all", "0.png"): gone}))
    ]

    assert all(pixels(path, (205, 205, 212)).sum() > 30_000 for path in paths)


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_prediction_is_drawn(tmp_path: Path, empty: bool) -> None:
    """A mask without a pixel leaves the truth's outline alone."""
    mask = encode_rle(np.zeros((48, 64), bool)) if empty else row(0.5)["prediction"]
    path = write_sheet(
        tmp_path / "worst.png", [row(0.0, prediction=mask)], {("all", "0.png"): images(1)[0]}
    )

    assert pixels(path, GREEN).any()
    assert pixels(path, ORANGE).any() != empty
