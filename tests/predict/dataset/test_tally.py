"""Why a dataset is empty."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.predict.dataset.run import DatasetOptions
from nexus.predict.dataset.tally import left_out_by, why_empty


def report(skipped: int = 0) -> dict[str, Any]:
    return {
        "settings": {"generator": "G", "settings": {"pred_iou_thresh": 0.88}},
        "options": {"min_predicted_iou": 0.9, "min_area": 5},
        "statistics": {"images": 2},
        "skipped": [{}] * skipped,
    }


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        ((0.9, 0.9, 9), "min_predicted_iou"),
        ((0.91, 0.8, 9), "min_stability_score"),
        ((0.91, 0.81, 4), "min_area"),
        ((0.91, 0.81, 5), None),
    ],
)
def test_the_first_limit_that_is_not_cleared(
    mask: tuple[float, float, int], name: str | None
) -> None:
    """Scores are to be above theirs, areas at least theirs."""
    limits = DatasetOptions(min_predicted_iou=0.9, min_stability_score=0.8, min_area=5)
    record = dict(zip(("predicted_iou", "stability_score", "area"), mask, strict=True))

    assert left_out_by(record, limits) == name
    assert limits.keeps(record) == (name is None)


def test_what_removed_most_comes_first() -> None:
    """Each setting with its value, and what is no setting in words."""
    tally = {"candidates": 30, "pred_iou_thresh": 20, "min_area": 6, "crop_edge": 4, "x": 0}

    assert why_empty(tally, report()) == (
        "expected at least one mask, got an empty dataset of 2 images: of 30 candidates "
        "pred_iou_thresh 0.88 removed 20, min_area 5 removed 6, the edges of crops removed 4"
    )


def test_a_generator_that_does_not_count() -> None:
    """What it gave are the candidates; where it gave nothing that is said."""
    assert "of 1 candidate min_predicted_iou 0.9 removed 1" in why_empty(
        {"min_predicted_iou": 1}, report()
    )
    assert why_empty({}, report(skipped=1)).endswith(
        "of 2 images, with 1 more that could not be used: no masks were found"
    )
