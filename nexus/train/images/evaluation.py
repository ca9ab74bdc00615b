"""What a model can do on held-out objects: boxes, one click, clicks that correct.

Masks come from `model.predict_batch` and are compared at the size of the original image, so that
the figures are those anybody gets with the resulting weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.types import ImageEmbedding, Masks, Prompt
from nexus.data.clicks.sampling import centre_click, error_click
from nexus.data.truth.labelled import tight_box
from nexus.eval.metrics import dice
from nexus.models.promptable import PromptableModel
from nexus.train.config import EvaluateSettings, Measure
from nexus.train.images.prepare import HeldOut

POOLED = "all"


@dataclass(frozen=True)
class ObjectFigure:
    """How well one object was found.

    Attributes:
        set_title: The set it is of.
        image: Set and name of its image.
        object_id: Its id there.
        measure: How it was pointed at.
        dsc: Dice coefficient with the truth.
    """

    set_title: str
    image: str
    object_id: int
    measure: Measure
    dsc: float


@dataclass(frozen=True)
class Figure:
    """The mean over the objects of a set.

    Attributes:
        measure: How they were pointed at.
        set_title: The set, or 'all' for the objects of all sets.
        dsc: Mean Dice coefficient.
        objects: How many there are.
    """

    measure: Measure
    set_title: str
    dsc: float
    objects: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def measure_image(
    model: PromptableModel, one: HeldOut, settings: EvaluateSettings, candidates: bool
) -> list[ObjectFigure]:
    """Measure all objects of one image.

    Args:
        model: The model.
        one: The image.
        settings: Which measures.
        candidates: Take the best of three masks for a click alone, as `predict` does unasked.
    """
    truths = one.truths()
    if not truths:
        return []
    embedding, ignored = one.embedding(), one.image.labelled.ignored()
    found: dict[Measure, list[NDArray[np.bool_]]] = {}
    if "box" in settings.measures:
        boxes = [Prompt(box=tight_box(truth.mask)) for truth in truths]
        found["box"] = [masks.best for masks in model.predict_batch(embedding, boxes, False)]
    clicks = settings.clicks if "clicks" in settings.measures else 1
    if set(settings.measures) & {"one_click", "clicks"}:
        games = [
            _play(model, embedding, truth.mask, ignored, clicks, settings.mask_prompt, candidates)
            for truth in truths
        ]
        found["one_click"], found["clicks"] = [g[0] for g in games], [g[-1] for g in games]
    return [
        ObjectFigure(
            one.image.set_title,
            one.image.name,
            truth.object_id,
            measure,
            float(dice(mask, truth.mask, ignored)),
        )
        for measure in settings.measures
        for truth, mask in zip(truths, found[measure], strict=True)
    ]


def _play(
    model: PromptableModel,
    embedding: ImageEmbedding,
    truth: NDArray[np.bool_],
    ignored: NDArray[np.bool_] | None,
    clicks: int,
    mask_prompt: bool,
    candidates: bool,
) -> list[NDArray[np.bool_]]:
    """Click, look, correct; return the mask after each click until nothing is wrong."""
    click = centre_click(truth)
    points, labels = [(click.x, click.y)], [1]
    given: list[NDArray[np.bool_]] = []
    last: Masks | None = None
    while True:
        mask = last.best_low_res_logits if last is not None and mask_prompt else None
        prompt = Prompt(points=points, labels=labels, mask=mask)
        several = None if candidates else False
        last = model.predict_batch(embedding, [prompt], several)[0]
        given.append(last.best)
        wrong = error_click(truth, last.best, ignored) if len(given) < clicks else None
        if wrong is None:
            return given
        points, labels = [*points, (wrong.x, wrong.y)], [*labels, wrong.label]


def figures_of(objects: Sequence[ObjectFigure]) -> list[Figure]:
    """Average over the objects of each set and of all, by measure, in the order they came."""
    groups: dict[tuple[Measure, str], list[float]] = {}
    for one in objects:
        groups.setdefault((one.measure, POOLED), []).append(one.dsc)
    for one in objects:
        groups.setdefault((one.measure, one.set_title), []).append(one.dsc)
    return [
        Figure(measure, title, float(np.mean(values)), len(values))
        for (measure, title), values in groups.items()
    ]


def chosen_mean(figures: Sequence[Figure], settings: EvaluateSettings) -> float | None:
    """Return the figure by which the best checkpoint is chosen; None where nothing is held out."""
    wanted = settings.choose or settings.measures
    values = [f.dsc for f in figures if f.set_title == POOLED and f.measure in wanted]
    return float(np.mean(values)) if values else None
