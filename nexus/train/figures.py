"""How well held-out objects were found: one by one, and as means over sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nexus.train.config import MeasuringSettings

POOLED = "all"


@dataclass(frozen=True)
class ObjectFigure:
    """How well one object was found.

    Attributes:
        set_title: The set it is of.
        item: Set and name of its image or video.
        object_id: Its id there.
        measure: What was measured.
        value: 0 to 1, higher is better.
    """

    set_title: str
    item: str
    object_id: int
    measure: str
    value: float


@dataclass(frozen=True)
class Figure:
    """The mean over the objects of a set.

    Attributes:
        measure: What was measured.
        set_title: The set, or 'all' for the objects of all sets.
        value: The mean.
        objects: How many there are.
    """

    measure: str
    set_title: str
    value: float
    objects: int


def figures_of(objects: Sequence[ObjectFigure]) -> list[Figure]:
    """Average over the objects of each set and of all, by measure, in the order they came."""
    groups: dict[tuple[str, str], list[float]] = {}
    for pooled in (True, False):
        for found in objects:
            title = POOLED if pooled else found.set_title
            groups.setdefault((found.measure, title), []).append(found.value)
    return [
        Figure(measure, title, float(np.mean(values)), len(values))
        for (measure, title), values in groups.items()
    ]


def chosen_mean(figures: Sequence[Figure], settings: MeasuringSettings) -> float | None:
    """Return the figure by which the best checkpoint is chosen; None where nothing is held out."""
    wanted = settings.choose or settings.measures
    values = [f.value for f in figures if f.set_title == POOLED and f.measure in wanted]
    return float(np.mean(values)) if values else None
