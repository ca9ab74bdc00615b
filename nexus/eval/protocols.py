"""Protocols on images: what the model is shown of each object, and how its answer is scored.

The clicks follow "Reviving Iterative Training with Mask Guidance for Interactive Segmentation"
(arXiv 2102.06583): the first at the centre of the object, each next one in the middle of the larger
error, with the mask so far as a prompt. Every answer is scored at the size of the original image.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.types import ImageEmbedding, Masks, Prompt
from nexus.data.clicks.game import Game, Target, best_answers
from nexus.data.clicks.sampling import centre_click, jittered_box
from nexus.data.truth.labelled import Truth
from nexus.eval.efficiency import Stopwatch
from nexus.eval.metrics import (
    boundary_f,
    clicks_to_reach,
    dice,
    hausdorff95,
    iou,
    iou_per_click,
    normalised_surface_dice,
)
from nexus.eval.settings import MULTIMASK, EvaluationSettings
from nexus.models.promptable import PromptableModel
from nexus.ops.rle import encode_rle

Row: TypeAlias = dict[str, Any]
"""One object under one protocol, as JSON values; None is a value that is not defined."""


@dataclass(frozen=True)
class Scene:
    """An encoded image and the objects to find in it.

    Attributes:
        name: Of set and image; the noise on boxes depends on it.
        model: Answers the prompts.
        embedding: The image, encoded once for all protocols.
        truths: Its objects.
        ignored: Pixels that count for nothing, bool (H, W), or None.
        spacing_hw: Height and width of a pixel, mm.
        settings: Of the run.
        watch: Times the decoder.
    """

    name: str
    model: PromptableModel
    embedding: ImageEmbedding
    truths: Sequence[Truth]
    ignored: NDArray[np.bool_] | None
    spacing_hw: tuple[float, float]
    settings: EvaluationSettings
    watch: Stopwatch

    def answer(self, prompts: Sequence[Prompt]) -> list[Masks]:
        """Decode prompts, on the clock."""
        multimask_output = MULTIMASK[self.settings.multimask]
        with self.watch.part("decoder_s"):
            return self.model.predict_batch(self.embedding, prompts, multimask_output)

    def boxes(self) -> list[Prompt]:
        """Return the box of each object as a prompt, with noise if the settings ask for it."""
        return [Prompt(box=self._box(truth)) for truth in self.truths]

    def targets(self) -> list[Target]:
        """Return the objects, each clicked at its centre."""
        masks = [truth.mask for truth in self.truths]
        return [Target(mask, self.ignored, [centre_click(mask)]) for mask in masks]

    def _box(self, truth: Truth) -> tuple[float, float, float, float]:
        if not self.settings.jitter:
            return truth.box_xyxy
        # Each object has numbers of its own, so that no order and no limit changes its box.
        key = [self.settings.seed, zlib.crc32(self.name.encode()), truth.object_id & 0xFFFFFFFF]
        rng, size_hw = np.random.default_rng(key), self.embedding.original_size_hw
        return jittered_box(truth.box_xyxy, size_hw, rng, share=self.settings.jitter)


def box_rows(scene: Scene) -> tuple[list[Row], int]:
    """Show the model each object's box; return a row for each, and the number of prompts."""
    answers = scene.answer(scene.boxes())
    return _rows(scene, answers), len(answers)


def medical_box_rows(scene: Scene) -> tuple[list[Row], int]:
    """Show the model each object's box; score surfaces in mm as well."""
    answers = scene.answer(scene.boxes())
    rows, tolerance_mm = _rows(scene, answers), scene.settings.tolerance_mm
    how: dict[str, Any] = {"spacing": scene.spacing_hw, "ignored": scene.ignored}
    for row, truth, masks in zip(rows, scene.truths, answers, strict=True):
        pair = masks.best, truth.mask
        row["nsd"] = float(normalised_surface_dice(*pair, tolerance_mm=tolerance_mm, **how))
        distance_mm = float(hausdorff95(*pair, **how))
        row["hd95"] = distance_mm if math.isfinite(distance_mm) else None
    return rows, len(answers)


def click_rows(scene: Scene) -> tuple[list[Row], int]:
    """Show the model one click at each object's centre."""
    answers = scene.answer([target.prompt for target in scene.targets()])
    return [{**row, "clicks": 1} for row in _rows(scene, answers)], len(answers)


def clicks_rows(scene: Scene) -> tuple[list[Row], int]:
    """Click on each object until all clicks are spent or no pixel is wrong.

    Clicks that were not needed repeat the last IoU in the curve of a row.
    """
    targets, count = scene.targets(), scene.settings.clicks
    ious: dict[Target, list[float]] = {target: [] for target in targets}
    last: dict[Target, Masks] = {}
    game = Game(targets, count)
    while game.playing:
        answers = scene.answer(game.prompts)
        for target, masks in zip(game.playing, answers, strict=True):
            ious[target].append(float(iou(masks.best, target.truth, scene.ignored)))
            last[target] = masks
        game.take(best_answers(answers))
    rows = _rows(scene, [last[target] for target in targets])
    for row, curve in zip(rows, ious.values(), strict=True):
        row["clicks"] = len(curve)
        row["noc85"] = float(clicks_to_reach(curve, 0.85, count))
        row["noc90"] = float(clicks_to_reach(curve, 0.90, count))
        row["iou_per_click"] = iou_per_click([curve], count).tolist()
    return rows, sum(map(len, ious.values()))


IMAGE_PROTOCOLS: dict[str, Callable[[Scene], tuple[list[Row], int]]] = {
    "box": box_rows,
    "click": click_rows,
    "clicks": clicks_rows,
    "medical-box": medical_box_rows,
}
"""By name what gives the rows of a scene and the number of prompts that took."""


def scene_rows(scene: Scene) -> Iterator[tuple[list[Row], int]]:
    """Yield what each protocol of the settings finds, with its name in the rows."""
    for name in scene.settings.protocols:
        if name in IMAGE_PROTOCOLS:
            rows, prompts = IMAGE_PROTOCOLS[name](scene)
            yield [{"protocol": name, **row} for row in rows], prompts


def _rows(scene: Scene, answers: Sequence[Masks]) -> list[Row]:
    """Return what all protocols tell of each object and its answer."""
    return [
        {
            "object_id": truth.object_id,
            "category": truth.category,
            "area": int(np.count_nonzero(truth.mask)),
            "box": [float(edge) for edge in truth.box_xyxy],
            "iou": float(iou(masks.best, truth.mask, scene.ignored)),
            "dice": float(dice(masks.best, truth.mask, scene.ignored)),
            "boundary_f": float(boundary_f(masks.best, truth.mask, ignored=scene.ignored)),
            "score": masks.best_score,
            "prediction": encode_rle(masks.best),
        }
        for truth, masks in zip(scene.truths, answers, strict=True)
    ]
