"""The prompts of a step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.frame import geometry_of
from nexus.train.config import LossSettings, PromptSettings
from nexus.train.images.plan import Call, ObjectPlan
from nexus.train.images.rounds import combined_loss, frame_to_original, keeping_loss, rounds_of
from nexus.train.images.sets import TrainingObject
from tests.models.tiny import TINY_POLICY


def test_a_decoder_pixel_lies_where_the_frame_shows_it() -> None:
    """Pixel centres of a 16 x 16 map of a 48 x 24 image in a frame of 64 are carried exactly."""
    geometry = geometry_of((24, 48), TINY_POLICY)

    x, y = frame_to_original((3.0, 1.0), (16, 16), geometry)

    # The centre of column 3 is 14 of 64 frame pixels from the left: index 13.5.
    assert (x, y) == pytest.approx((13.5 * 48 / 64, 5.5 * 48 / 64))
    assert frame_to_original((15.0, 15.0), (16, 16), geometry)[1] == 23.0


class _Painter:
    """Answers with a constant, and remembers what it was asked."""

    def __init__(self, value: float) -> None:
        self.value = torch.tensor(value, requires_grad=True)
        self.asked: list[list[Prompt]] = []
        self.candidates: list[int] = []

    def __call__(
        self, embeddings: Sequence[ImageEmbedding], prompts: Sequence[Prompt], several: bool
    ) -> tuple[Tensor, Tensor]:
        self.asked.append(list(prompts))
        shape = (len(prompts), 3 if several else 1)
        self.candidates.append(shape[1])
        return self.value.expand(*shape, 16, 16), torch.zeros(shape)


def embeddings_of(call: Call) -> list[ImageEmbedding]:
    """Return embeddings whose features nobody reads."""
    return [ImageEmbedding(torch.zeros(1, 4, 4), v.geometry, "x", "x") for v in call.views]


def test_clicks_correct_what_is_wrong(objects: list[TrainingObject]) -> None:
    """Where nothing was found the next clicks are on the object, where all was, beside it."""
    prompts = PromptSettings({"centre": 1.0}, rounds=3, mask_prompt=1.0)
    for value, label in ((-5.0, 1), (5.0, 0)):
        (call,) = ObjectPlan(objects, prompts, seed=0, rows=2).calls(0)
        painter = _Painter(value)

        rounds = list(rounds_of(call, painter, embeddings_of(call), prompts, LossSettings()))

        assert [len(asked[0].points) for asked in painter.asked] == [1, 2, 3]  # type: ignore[arg-type]
        assert painter.asked[1][0].labels.tolist() == [1, label]  # type: ignore[union-attr]
        assert painter.asked[0][0].mask is None
        assert painter.asked[2][1].mask is not None
        assert float(painter.asked[2][1].mask[0, 0]) == value
        assert all(loss.requires_grad for loss, _ in rounds)


def test_candidates_answer_a_click_alone(objects: list[TrainingObject]) -> None:
    """Several masks answer the first click of a game, never a box, nor a box with a click."""
    given: dict[str, list[int]] = {}
    for kind in ("inner", "jittered_box", "box_and_click"):
        prompts = PromptSettings({kind: 1.0}, rounds=2, box_rounds=2, candidates=True)  # type: ignore[dict-item]
        (call,) = ObjectPlan(objects, prompts, seed=0, rows=2).calls(0)
        painter = _Painter(-1.0)
        list(rounds_of(call, painter, embeddings_of(call), prompts, LossSettings()))
        given[kind] = painter.candidates

    assert given == {"inner": [3, 1], "jittered_box": [1, 1], "box_and_click": [1, 1]}


def test_a_perfect_answer_keeps_rows_alike(objects: list[TrainingObject]) -> None:
    """A row without an error gets one more click on the object."""
    prompts = PromptSettings({"box": 1.0}, box_rounds=2, mask_prompt=0.0)
    (call,) = ObjectPlan(objects, prompts, seed=0, rows=2).calls(0)

    def perfect(
        embeddings: Sequence[ImageEmbedding], asked: Sequence[Prompt], several: bool
    ) -> tuple[Tensor, Tensor]:
        seen.append(list(asked))
        truths = torch.from_numpy(np.stack([view.truth > 0.5 for view in call.views]))
        return truths.unsqueeze(1).float() * 2 - 1, torch.ones(len(asked), 1)

    seen: list[list[Prompt]] = []
    list(rounds_of(call, perfect, embeddings_of(call), prompts, LossSettings()))

    assert [prompt.labels.tolist() for prompt in seen[1]] == [[1], [1]]  # type: ignore[union-attr]
    assert all(prompt.box is not None for prompt in seen[1])


def test_the_best_candidate_learns() -> None:
    """Of three masks the one with the least loss has the gradient, and padding has none."""
    truth = torch.zeros(1, 8, 8)
    truth[0, :4] = 1
    valid = torch.ones(1, 8, 8)
    valid[0, :, 6:] = 0
    logits = torch.stack([-truth[0], truth[0], truth[0] * 0])[None].requires_grad_()

    found = combined_loss(logits, torch.zeros(1, 3), truth, valid, LossSettings(focal=1.0))

    found[0].backward()
    reached = logits.grad.abs().sum((0, 2, 3))  # type: ignore[union-attr]
    assert (reached > 0).tolist() == [False, True, False]
    assert float(logits.grad[..., 6:].abs().sum()) == 0  # type: ignore[index]
    assert set(found[1]) == {"dice", "bce", "focal", "iou"}


def test_good_answers_of_the_base_are_kept() -> None:
    """Where the base is right the loss grows with the distance from it; elsewhere it is 0."""
    truth = torch.zeros(2, 8, 8)
    truth[:, :4] = 1
    valid = torch.ones(2, 8, 8)
    known = torch.stack([truth[0] * 20 - 10, 10 - truth[1] * 20])[:, None]
    drifted = (-known).clone().requires_grad_()

    near = keeping_loss(known, known, truth, valid)
    far = keeping_loss(drifted, known, truth, valid)
    far.backward()

    assert float(near) < 1e-3
    assert float(far.detach()) == pytest.approx(5, rel=0.01)  # one row of two, 10 a pixel
    assert float(keeping_loss(-known, known, None, valid)) == pytest.approx(10, rel=0.01)
    assert [bool(one.abs().sum() > 0) for one in drifted.grad] == [True, False]  # type: ignore[union-attr]


def test_the_base_is_asked_of_first_boxes_alone(objects: list[TrainingObject]) -> None:
    """Boxes are compared with the base once a call, clicks never, and without a weight nothing."""
    asked: dict[str, int] = {}
    for kind, weight in (("box", 1.0), ("centre", 1.0), ("box", 0.0)):
        prompts = PromptSettings({kind: 1.0}, rounds=2, box_rounds=2)  # type: ignore[dict-item]
        (call,) = ObjectPlan(objects, prompts, seed=0, rows=2).calls(0)
        base, weights = _Painter(0.0), LossSettings(keep=weight)
        found = list(
            rounds_of(call, _Painter(1.0), embeddings_of(call), prompts, weights, base=base)
        )
        asked[f"{kind} {weight:g}"] = len(base.asked)
        assert ("keep" in found[0][1]) == (kind == "box" and weight > 0)

    assert asked == {"box 1": 1, "centre 1": 0, "box 0": 0}


def test_a_near_box_learns_to_answer_as_before(objects: list[TrainingObject]) -> None:
    """Its boxes lie within the view, and its loss is the distance from the base's answer."""
    prompts = PromptSettings({"near_box": 1.0})
    plan = ObjectPlan(objects, prompts, seed=0, rows=2)
    losses = []
    for step in range(20):
        (call,) = plan.calls(step)
        model, base = _Painter(1.0), _Painter(0.0)
        (one,) = rounds_of(
            call, model, embeddings_of(call), prompts, LossSettings(keep=2.0), base=base
        )
        losses.append(float(one[0].detach()))

        assert set(one[1]) == {"keep"}
        assert one[0].requires_grad
        assert [p.box.tolist() for p in base.asked[0]] == [p.box.tolist() for p in model.asked[0]]  # type: ignore[union-attr]
        for prompt, view in zip(model.asked[0], call.views, strict=True):
            x0, y0, x1, y1 = prompt.box.tolist()  # type: ignore[union-attr]
            height, width = view.geometry.original_size_hw
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            assert prompt.box.tolist() != list(view.box_xyxy)  # type: ignore[union-attr]

    # Half of the pixels' probability each way: log(1 + e) - 1 / 2 for a logit of 1.
    assert losses == pytest.approx([2 * (math.log1p(math.e) - 0.5)] * 20, rel=1e-5)
