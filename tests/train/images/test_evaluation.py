"""Measuring held-out objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.types import Masks, Prompt
from nexus.data.truth import open_images
from nexus.eval.metrics import dice
from nexus.train.config import EvaluateSettings
from nexus.train.images.evaluation import measure_image
from nexus.train.images.sets import counted_truths
from nexus.train.sets import split_sets
from tests.models.tiny import tiny_sam
from tests.train.tiny_run import draw_set, tiny_settings


def test_figures_are_those_of_predict(tmp_path: Path) -> None:
    """A box and a click by hand, through `predict`, score what the measures say."""
    draw_set(tmp_path / "shapes")
    data = tiny_settings(tmp_path).data
    image, model = split_sets(open_images, data)[0][0], tiny_sam(4)
    pixels = image.labelled.load_image()
    truths, settings = counted_truths(image, data), EvaluateSettings(clicks=2)

    found = measure_image(
        model, image, truths, lambda: model.encode_image(pixels), settings, candidates=False
    )

    assert [(f.measure, f.object_id) for f in found] == [
        (measure, truth.object_id) for measure in ("box", "one_click", "clicks") for truth in truths
    ]
    truth = truths[0]
    by_hand = model.predict(pixels, Prompt(box=truth.box_xyxy), multimask_output=False).best
    assert found[0].value == pytest.approx(dice(by_hand, truth.mask))
    assert all(0 <= figure.value <= 1 for figure in found)


def test_a_found_object_needs_no_more_clicks(tmp_path: Path) -> None:
    """Where the first click is answered rightly, later figures are those of the first."""
    draw_set(tmp_path / "shapes")
    data = tiny_settings(tmp_path).data
    image = split_sets(open_images, data)[0][0]
    truth = counted_truths(image, data)[0]

    class Knows:
        def predict_batch(self, embedding: object, prompts: list[Prompt], several: object) -> list:
            asked.append(prompts)
            return [Masks(truth.mask[None], np.ones(1), np.zeros((1, 4, 4), np.float32))]

    asked: list[list[Prompt]] = []
    settings = EvaluateSettings(("one_click", "clicks"), clicks=3)
    model: Any = Knows()
    found = measure_image(model, image, [truth], lambda: Any, settings, candidates=False)

    assert [len(prompts) for prompts in asked] == [1]
    assert [figure.value for figure in found] == [1.0, 1.0]
