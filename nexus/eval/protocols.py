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
from nexus.data.clicks.sampling import Click, centre_click, error_click, jittered_box
from nexus.data.truth.labelled import Truth
from nexus.eval.efficiency import Stopwatch
from nexus.eval.metrics import (
    boundary_f,
    clicks_to_reach,
    dice,
    hausdorff95,
    iou,
    normalised_surface_dice,
)
from nexus.eval.settings import MULTIMASK, EvaluationSettings
from nexus.models.promptable import PromptableModel
from nexus.ops.rle import encode_rle

Row: TypeAlias = dict[str, Any]
"""One object under one protocol, as JSON values; None is a value that is not defined."""

MOST_JITTER_PX = 20.0
"""How far noise moves an edge at most, as in the training of SAM."""


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
        several = MULTIMASK[self.settings.multimask]
        with self.watch.part("decoder_s"):
            return self.model.predict_batch(self.embedding, prompts, several)

    def boxes(self) -> list[Prompt]:
        """Return the box of each object as a prompt, with noise if the settings ask for it."""
        return [Prompt(box=self._box(truth)) for truth in self.truths]

    def _box(self, truth: Truth) -> tuple[float, float, float, float]:
        if not self.settings.jitter:
            return truth.box_xyxy
        # Each object has numbers of its own, so that no order and no limit changes its box.
        key = [self.settings.seed, zlib.crc32(self.name.encode()), truth.object_id & 0xFFFFFFFF]
        moved: tuple[float, float, float, float] = jittered_box(
            truth.box_xyxy,
            self.embedding.original_size_hw,
            np.random.default_rng(key),
            share=self.settings.jitter,
            limit_px=MOST_JITTER_PX,
        )
        return moved


def box_rows(scene: Scene) -> tuple[list[Row], int]:
    """Show the model each object's box; return a row for each, and the number of prompts."""
    answers = scene.answer(scene.boxes())
    pairs = zip(scene.truths, answers, strict=True)
    return [_row(scene, truth, masks) for truth, masks in pairs], len(answers)


def medical_box_rows(scene: Scene) -> tuple[list[Row], int]:
    """Show the model each object's box; score surfaces in mm as well."""
    answers = scene.answer(scene.boxes())
    rows = []
    for truth, masks in zip(scene.truths, answers, strict=True):
        row = _row(scene, truth, masks)
        pair, ignored = (masks.best, truth.mask), scene.ignored
        spacing, tolerance_mm = scene.spacing_hw, scene.settings.tolerance_mm
        row["nsd"] = float(
            normalised_surface_dice(
                *pair, tolerance_mm=tolerance_mm, spacing=spacing, ignored=ignored
            )
        )
        distance_mm = float(hausdorff95(*pair, spacing=spacing, ignored=ignored))
        row["hd95"] = distance_mm if math.isfinite(distance_mm) else None
        rows.append(row)
    return rows, len(answers)


def click_rows(scene: Scene) -> tuple[list[Row], int]:
    """Show the model one click at each object's centre."""
    prompts = [_prompt([centre_click(truth.mask)]) for truth in scene.truths]
    answers = scene.answer(prompts)
    pairs = zip(scene.truths, answers, strict=True)
    return [{**_row(scene, truth, masks), "clicks": 1} for truth, masks in pairs], len(answers)


def clicks_rows(scene: Scene) -> tuple[list[Row], int]:
    """Click on each object until all clicks are spent or no pixel is wrong."""
    count = scene.settings.clicks
    games = [_Game(scene, truth, [centre_click(truth.mask)]) for truth in scene.truths]
    prompts = 0
    for _ in range(count):
        playing = [game for game in games if not game.is_over]
        if not playing:
            break
        answers = scene.answer([game.prompt() for game in playing])
        prompts += len(answers)
        for game, masks in zip(playing, answers, strict=True):
            game.take(masks, more=len(game.ious) + 1 < count)
    return [game.row(count) for game in games], prompts


class _Game:
    """The clicks on one object and what came of them."""

    def __init__(self, scene: Scene, truth: Truth, clicks: list[Click]) -> None:
        self.scene = scene
        self.truth = truth
        self.clicks = clicks
        self.ious: list[float] = []
        self.is_over = False
        self._masks: Masks | None = None

    def prompt(self) -> Prompt:
        """Return all clicks so far, and the last mask."""
        last = None if self._masks is None else self._masks.best_low_res_logits
        return _prompt(self.clicks, last)

    def take(self, masks: Masks, more: bool) -> None:
        """Score an answer and, if there are to be more, place the next click."""
        self._masks = masks
        self.ious.append(float(iou(masks.best, self.truth.mask, self.scene.ignored)))
        following = None
        if more:
            following = error_click(self.truth.mask, masks.best, self.scene.ignored)
        if following is None:
            self.is_over = True
        else:
            self.clicks.append(following)

    def row(self, count: int) -> Row:
        """Return the row of the last answer; clicks not needed repeat its IoU in the curve."""
        if self._masks is None:
            raise RuntimeError("expected an answer before the row of a game")
        curve = [*self.ious, *[self.ious[-1]] * (count - len(self.ious))]
        return {
            **_row(self.scene, self.truth, self._masks),
            "clicks": len(self.ious),
            "noc85": float(clicks_to_reach(curve, 0.85, count)),
            "noc90": float(clicks_to_reach(curve, 0.90, count)),
            "iou_per_click": curve,
        }


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


def _row(scene: Scene, truth: Truth, masks: Masks) -> Row:
    predicted = masks.best
    return {
        "object_id": truth.object_id,
        "category": truth.category,
        "area": int(np.count_nonzero(truth.mask)),
        "box": [float(edge) for edge in truth.box_xyxy],
        "iou": float(iou(predicted, truth.mask, scene.ignored)),
        "dice": float(dice(predicted, truth.mask, scene.ignored)),
        "boundary_f": float(boundary_f(predicted, truth.mask, ignored=scene.ignored)),
        "score": masks.best_score,
        "prediction": encode_rle(predicted),
    }


def _prompt(clicks: Sequence[Click], mask: NDArray[np.float32] | None = None) -> Prompt:
    points = [(click.x, click.y) for click in clicks]
    return Prompt(points, [click.label for click in clicks], mask=mask)
