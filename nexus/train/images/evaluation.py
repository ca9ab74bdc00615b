"""What a model can do on held-out objects: boxes, one click, clicks that correct.

Masks come from `model.predict_batch` and are compared at the size of the original image, so that
the figures are those anybody gets with the resulting weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nexus.core.types import ImageEmbedding, Prompt
from nexus.data.clicks.game import Game, Target, best_answers
from nexus.data.clicks.sampling import centre_click
from nexus.data.truth.labelled import Truth
from nexus.eval.metrics import dice
from nexus.models.promptable import PromptableModel
from nexus.ops.boxes import tight_box
from nexus.train.config import EvaluateSettings, Measure
from nexus.train.figures import ObjectFigure
from nexus.train.images.sets import SetImage


def measure_image(
    model: PromptableModel,
    image: SetImage,
    truths: Sequence[Truth],
    embed: Callable[[], ImageEmbedding],
    settings: EvaluateSettings,
    candidates: bool,
) -> list[ObjectFigure]:
    """Measure all objects of one image, one after the other under each measure.

    Args:
        model: The model.
        image: The image.
        truths: Its objects that count.
        embed: Encodes it, or reads its embedding.
        settings: Which measures.
        candidates: Take the best of three masks for a click alone, as `predict` does unasked.
    """
    if not truths:
        return []
    embedding, ignored = embed(), image.labelled.ignored()
    found: dict[Measure, list[NDArray[np.bool_]]] = {"one_click": [], "clicks": []}
    if "box" in settings.measures:
        boxes = [Prompt(box=tight_box(truth.mask)) for truth in truths]
        found["box"] = [masks.best for masks in model.predict_batch(embedding, boxes, False)]
    rounds = settings.clicks if "clicks" in settings.measures else 1
    for truth in truths if {"one_click", "clicks"} & set(settings.measures) else ():
        game = Game([Target(truth.mask, ignored, [centre_click(truth.mask)])], rounds)
        given = []
        while game.playing:
            answers = model.predict_batch(embedding, game.prompts, None if candidates else False)
            given.append(answers[0].best)
            game.take(best_answers(answers, settings.mask_prompt))
        found["one_click"].append(given[0])
        found["clicks"].append(given[-1])
    return [
        ObjectFigure(
            image.set_title,
            image.name,
            truth.object_id,
            measure,
            float(dice(mask, truth.mask, ignored)),
        )
        for measure in settings.measures
        for truth, mask in zip(truths, found[measure], strict=True)
    ]
