"""Prompts: what is accepted, and what each mistake is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import PromptError
from nexus.core.types import Prompt


def test_points_without_labels_are_foreground() -> None:
    """Labels may be left out; a single point may be given flat."""
    assert Prompt([[1, 2], [3, 4]]).labels.tolist() == [1, 1]  # type: ignore[union-attr]
    assert Prompt([1, 2]).points.tolist() == [[1, 2]]  # type: ignore[union-attr]


def test_a_box_may_have_a_leading_axis() -> None:
    """(1, 4) boxes, as detectors give them, are taken."""
    assert Prompt(box=np.array([[1, 2, 3, 4]])).box.tolist() == [1, 2, 3, 4]  # type: ignore[union-attr]


def test_masks_keep_their_kind() -> None:
    """Bool masks stay bool, logits become float32, a leading axis of one is dropped."""
    logits = Prompt(mask=torch.zeros(1, 4, 4, dtype=torch.bfloat16)).mask
    rough = Prompt(mask=np.ones((5, 6), bool)).mask

    assert logits is not None
    assert (logits.shape, logits.dtype) == ((4, 4), np.float32)
    assert rough is not None
    assert rough.dtype == np.bool_


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"points, a box or a mask, got an empty one(.|\n)*hint: pass points="),
        ({"points": []}, "got an empty one"),
        ({"points": [[1, 2, 3]]}, r"shape \(N, 2\), XY in pixels, got shape \(1, 3\)"),
        ({"points": [[float("nan"), 1]]}, "finite numbers for points"),
        ({"points": [[float("inf"), 1]]}, "finite numbers for points"),
        ({"points": "here"}, "expected numbers for points, got 'here'"),
        ({"points": [[1, 2], [3]]}, "expected numbers for points"),
        (
            {"points": [[1, 2]], "labels": [7]},
            r"labels 1 \(foreground\) or 0 \(background\), got 7",
        ),
        ({"points": [[1, 2]], "labels": [0.5]}, "got 0.5"),
        ({"points": [[1, 2]], "labels": [1, 0]}, r"one label per point, shape \(1,\), got shape"),
        ({"labels": [1]}, "points to go with the labels, got labels alone"),
        ({"box": [10, 10, 5, 20]}, r"x0 < x1 and y0 < y1, got \(10, 10, 5, 20\)"),
        ({"box": [10, 10, 10, 20]}, r"not \(x, y, width, height\)"),
        ({"box": [1, 2, 3]}, r"box of shape \(4,\)"),
        ({"box": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "for several boxes pass several prompts"),
        ({"box": [1, 2, 3, float("nan")]}, "finite numbers for a box"),
        (
            {"mask": np.zeros((2, 4, 4), np.float32)},
            r"mask of shape \(h, w\), got shape \(2, 4, 4\)",
        ),
        ({"mask": np.zeros((4, 4), np.uint8)}, r"float logits or of bool, got uint8"),
        ({"mask": np.full((4, 4), np.nan)}, "finite numbers for mask logits"),
    ],
)
def test_every_mistake_is_named(arguments: dict[str, Any], message: str) -> None:
    """The message says what was expected and what came."""
    with pytest.raises(PromptError, match=message):
        Prompt(**arguments)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"pont": [1, 2]}, "prompt keys among point, points, label, labels, box, mask, got pont"),
        ({"point": [1, 2], "points": [[1, 2]]}, "'point' or 'points' in a prompt, got both"),
        ([1, 2, 3], r"got an array of shape \(3,\)"),
        ([[1, 2], [3, 4]], r"several objects: predict_batch"),
        (None, "expected a prompt, got None"),
    ],
)
def test_every_wrong_spelling_is_named(prompt: Any, message: str) -> None:
    """Unknown keys, doubled keys and other shapes are refused, not guessed at."""
    with pytest.raises(PromptError, match=message):
        Prompt.of(prompt)


def test_a_key_with_none_does_not_hide_its_twin() -> None:
    """`points=None` beside `point` is as if it were not there."""
    prompt = Prompt.of({"point": (1, 2), "points": None, "label": 0, "labels": None})

    assert prompt.points.tolist() == [[1, 2]]  # type: ignore[union-attr]
    assert prompt.labels.tolist() == [0]  # type: ignore[union-attr]


def test_points_must_lie_in_the_image() -> None:
    """The far edges belong to the image; beyond them the first point outside is named."""
    Prompt([[0, 0], [20, 10]]).check_within((10, 20))
    for point in ([20.5, 5], [5, 10.5], [-0.5, 5], [5, -0.5]):
        with pytest.raises(PromptError, match=rf"0 <= y <= 10\), got \({point[0]:g}, {point[1]:g}"):
            Prompt([[1, 1], point]).check_within((10, 20))


def test_a_box_must_touch_the_image() -> None:
    """Reaching over an edge is fine; missing the image is not."""
    Prompt(box=[-5, -5, 3, 30]).check_within((10, 20))
    for box in ([21, 1, 30, 5], [1, 10, 5, 12], [-9, 1, 0, 5]):
        with pytest.raises(PromptError, match="overlaps the image of 20 x 10 pixels"):
            Prompt(box=box).check_within((10, 20))
