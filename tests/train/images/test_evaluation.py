"""Measuring held-out objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nexus.core.types import Prompt
from nexus.eval.metrics import dice
from nexus.train.config import EvaluateSettings
from nexus.train.images.evaluation import (
    Figure,
    ObjectFigure,
    chosen_mean,
    figures_of,
    measure_image,
)
from nexus.train.images.prepare import HeldOut
from nexus.train.images.sets import split_images
from tests.models.tiny import tiny_sam
from tests.train.tiny_run import draw_set, tiny_settings


def test_figures_are_those_of_predict(tmp_path: Path) -> None:
    """A box and a click by hand, through `predict`, score what the measures say."""
    draw_set(tmp_path / "shapes")
    data = tiny_settings(tmp_path).data
    image, model = split_images(data)[0][0], tiny_sam(4)
    pixels = image.labelled.load_image()
    one = HeldOut(image, lambda: image.chosen(data), lambda: model.encode_image(pixels))

    found = measure_image(model, one, EvaluateSettings(clicks=2), candidates=False)

    assert [(f.measure, f.object_id) for f in found] == [
        (measure, truth.object_id)
        for measure in ("box", "one_click", "clicks")
        for truth in image.chosen(data)
    ]
    truth = image.chosen(data)[0]
    by_hand = model.predict(pixels, Prompt(box=truth.box_xyxy), multimask_output=False).best
    assert found[0].dsc == pytest.approx(dice(by_hand, truth.mask))
    assert all(0 <= figure.dsc <= 1 for figure in found)


def test_a_found_object_needs_no_more_clicks() -> None:
    """Where the first click is answered rightly, later figures are those of the first."""
    mask = np.zeros((48, 48), np.bool_)
    mask[10:20, 10:20] = True

    class Knows:
        def predict_batch(self, embedding: object, prompts: list[Prompt], several: object) -> list:
            asked.append(prompts)
            return [type("M", (), {"best": mask})()]

    asked: list[list[Prompt]] = []
    from nexus.train.images.evaluation import _play

    given = _play(Knows(), None, mask, None, 3, False, False)  # type: ignore[arg-type]

    assert len(given) == len(asked) == 1


def test_means_are_over_objects() -> None:
    """The pooled figure weighs objects, not sets, and the choice is the mean of its measures."""
    ones = [ObjectFigure("a", "i", 1, "box", 1.0), ObjectFigure("b", "j", 1, "box", 0.4)]
    ones += [ObjectFigure("b", "j", 2, "box", 0.4), ObjectFigure("b", "j", 2, "clicks", 0.8)]

    figures = figures_of(ones)

    assert Figure("box", "all", pytest.approx(0.6), 3) in figures
    assert Figure("box", "b", pytest.approx(0.4), 2) in figures
    settings = EvaluateSettings(("box", "clicks"))
    assert chosen_mean(figures, settings) == pytest.approx(0.7)
    chosen = EvaluateSettings(("box", "clicks"), choose=("clicks",))
    assert chosen_mean(figures, chosen) == pytest.approx(0.8)
    assert chosen_mean([], settings) is None
