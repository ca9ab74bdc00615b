"""Numbers of clicks and curves of IoU over clicks."""

from __future__ import annotations

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.eval.metrics import clicks_to_reach, iou_per_click, number_of_clicks


def test_the_first_click_that_reaches_counts() -> None:
    """At the threshold is reached; a later fall changes nothing."""
    assert clicks_to_reach([0.5, 0.85, 0.2, 0.95], 0.85) == 2
    assert clicks_to_reach([0.9], 0.85) == 1


def test_an_object_never_reached_counts_the_most_clicks() -> None:
    """Also one reached only after the clicks that count."""
    assert clicks_to_reach([0.5] * 4, 0.9) == 20
    assert clicks_to_reach([0.5, 0.6, 0.95], 0.9, max_clicks=2) == 2
    assert clicks_to_reach([0.5, 0.95, 0.95], 0.9, max_clicks=2) == 2


def test_noc_is_the_mean_over_objects() -> None:
    """Failures are counted apart: reached at the last click is none."""
    curves = [[0.9], [0.2, 0.86], [0.1] * 20, [0.1] * 19 + [0.99]]
    count = number_of_clicks(curves, 0.85)

    assert count.mean == pytest.approx((1 + 2 + 20 + 20) / 4)
    assert (count.failures, count.objects, count.threshold) == (1, 4, 0.85)


def test_a_stricter_threshold_takes_no_fewer_clicks() -> None:
    """NoC@90 is at least NoC@85."""
    curves = np.sort(np.random.default_rng(0).random((30, 20)), axis=1).tolist()

    assert number_of_clicks(curves, 0.9).mean > number_of_clicks(curves, 0.85).mean


def test_curves_that_end_early_keep_their_last_value() -> None:
    """Mean over objects at each click, cut to the clicks that count."""
    curve = iou_per_click([[0.4, 0.8], [0.6, 0.7, 0.9, 0.1]], max_clicks=3)

    np.testing.assert_allclose(curve, [0.5, 0.75, 0.85])


@pytest.mark.parametrize(
    ("curves", "threshold", "message"),
    [
        ([], 0.85, r"curve of at least one object, got none"),
        ([[]], 0.85, r"one IoU for each click, got an array of shape \(0,\)"),
        ([[0.5, 1.2]], 0.85, r"IoUs from 0 to 1, got 0.5 to 1.2"),
        ([[0.5, float("nan")]], 0.85, r"IoUs from 0 to 1, got nan"),
        ([[0.5]], 85, r"(?s)above 0 and at most 1, got 85.*threshold=0.85"),
        ([[0.5]], 0.0, r"above 0 and at most 1, got 0.0"),
    ],
)
def test_wrong_curves_are_refused(
    curves: list[list[float]], threshold: float, message: str
) -> None:
    """No object, no click, no IoU, and percent for a threshold."""
    with pytest.raises(InputError, match=message):
        number_of_clicks(curves, threshold)


def test_wrong_click_limits_are_refused() -> None:
    """At least one click counts, and at least one object."""
    with pytest.raises(InputError, match="max_clicks of at least 1, got 0"):
        clicks_to_reach([0.5], 0.85, max_clicks=0)
    with pytest.raises(InputError, match="max_clicks of at least 1, got 0"):
        iou_per_click([[0.5]], max_clicks=0)
    with pytest.raises(InputError, match="curve of at least one object, got none"):
        iou_per_click([])
