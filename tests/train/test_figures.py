"""Means of what was measured."""

from __future__ import annotations

import pytest

from nexus.train.config import EvaluateSettings
from nexus.train.figures import Figure, ObjectFigure, chosen_mean, figures_of


def test_means_are_over_objects() -> None:
    """The pooled figure weighs objects, not sets, and the choice is the mean of its measures."""
    found = [ObjectFigure("a", "i", 1, "box", 1.0), ObjectFigure("b", "j", 1, "box", 0.4)]
    found += [ObjectFigure("b", "j", 2, "box", 0.4), ObjectFigure("b", "j", 2, "clicks", 0.8)]

    figures = figures_of(found)

    assert Figure("box", "all", pytest.approx(0.6), 3) in figures
    assert Figure("box", "b", pytest.approx(0.4), 2) in figures
    settings = EvaluateSettings(("box", "clicks"))
    assert chosen_mean(figures, settings) == pytest.approx(0.7)
    chosen = EvaluateSettings(("box", "clicks"), choose=("clicks",))
    assert chosen_mean(figures, chosen) == pytest.approx(0.8)
    assert chosen_mean([], settings) is None
