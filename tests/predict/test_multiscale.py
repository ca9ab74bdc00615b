"""A prompt at several scales, put to the vote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError, PromptError
from nexus.core.types import Masks, Prompt
from nexus.predict.multiscale import multiscale_segment
from tests.models.tiny import tiny_sam


class BoxOfLight:
    """A predictor that returns the bright pixels, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[np.ndarray, Prompt]] = []

    def predict(self, image: np.ndarray, prompt: Prompt, **_: Any) -> Masks:
        self.asked.append((image, prompt))
        mask = image[..., 0] > image.max() / 2
        return Masks(mask[None], np.ones(1, np.float32), np.zeros((1, 4, 4), np.float32))


def _picture(dtype: type = np.uint8) -> np.ndarray:
    picture = np.zeros((40, 60, 3), dtype)
    picture[10:30, 20:50] = 200 if dtype == np.uint8 else 40_000
    return picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_prompts_scale_with_the_image(dtype: type) -> None:
    """The predictor sees each scale with its prompt scaled; the mask has the image's size."""
    predictor = BoxOfLight()
    prompt = Prompt([[30, 20]], [1], box=(20, 10, 50, 30))
    mask = multiscale_segment(_picture(dtype), predictor, prompt)  # type: ignore[arg-type]

    assert [image.shape[:2] for image, _ in predictor.asked] == [(20, 30), (40, 60), (80, 120)]
    assert [p.points.tolist() for _, p in predictor.asked] == [[[15, 10]], [[30, 20]], [[60, 40]]]  # type: ignore[union-attr]
    assert predictor.asked[2][1].box.tolist() == [40, 20, 100, 60]  # type: ignore[union-attr]
    assert {image.dtype for image, _ in predictor.asked} == {np.dtype(dtype)}
    assert np.array_equal(mask, _picture(dtype)[..., 0] > 0)


def test_one_scale_is_predict() -> None:
    """At scale 1 alone the mask is the best one of `predict`."""
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    model = tiny_sam()

    assert np.array_equal(
        multiscale_segment(image, model, (30, 20), [1.0]), model.predict(image, (30, 20)).best
    )
    assert multiscale_segment(image, model, np.array([30, 20]), [0.5, 1]).shape == (50, 70)


def test_wrong_input_is_refused() -> None:
    """Scales of none or below 0, and a point outside the image."""
    for scales in ([], [1, 0]):
        with pytest.raises(InputError, match="one or more scales above 0"):
            multiscale_segment(_picture(), tiny_sam(), (1, 1), scales)
    with pytest.raises(PromptError, match="expected points inside"):
        multiscale_segment(_picture(), tiny_sam(), (100, 1))
