"""The steps of tracking: what goes in is heeded, and gradients are the caller's business."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from nexus.core.types import Prompt
from nexus.models.cv.sam2 import SAM2
from nexus.models.memory import FrameFeatures, ObjectOutputs, Past, Remembered
from nexus.models.tracking_step import TrackingHabits, answer, cleaned, condition, remember, show
from tests.models.tiny_sam2 import TINY_SAM2, TINY_SAM2_POLICY, tiny_sam2

CLICK, CORNERS = Prompt([[20, 20]], [1]), Prompt([[50, 30], [10, 10]], [1, 0])
MASK = np.zeros((48, 64), bool)
MASK[2:20, 3:22] = True


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    return tiny_sam2()


@pytest.fixture(scope="module")
def frame(sam2: SAM2) -> FrameFeatures:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        return sam2.frame_features(sam2.encode_frames([picture])[0])


def answered(model: SAM2, frame: FrameFeatures, *prompts: Prompt, **options: Any) -> ObjectOutputs:
    return answer(model, frame, model.without_memory(frame), prompts, **options)


def tokens(model: SAM2, frame: FrameFeatures, outputs: ObjectOutputs, **options: Any) -> Tensor:
    logits, scores = outputs.low_res_logits, outputs.object_score_logits
    return remember(model, frame, logits, scores, [True] * len(logits), **options)


def with_habits(model: SAM2, **habits: Any) -> SAM2:
    """Return a model with equal weights whose configuration has these habits."""
    other = tiny_sam2(config=dataclasses.replace(TINY_SAM2, **habits))
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("learning", [True, False])
def test_gradients_are_the_callers_business(
    sam2: SAM2, frame: FrameFeatures, learning: bool
) -> None:
    """Every step carries them where they are on, and none turns them on."""
    with torch.set_grad_enabled(learning):
        outputs = answered(sam2, frame, CLICK)
        adopted = answered(sam2, frame, Prompt(mask=MASK))
        memory = tokens(sam2, frame, outputs)
        past = Past({0: Remembered(memory[0], outputs.object_pointer[0])}, {})
        features = condition(sam2, frame, 1, [past], 16)

    results = (outputs.low_res_logits, adopted.object_pointer, memory, features)
    assert [result.requires_grad for result in results] == [learning] * 4


@torch.no_grad()
def test_habits_are_arguments(sam2: SAM2, frame: FrameFeatures) -> None:
    """What they change is what the same habits in the configuration change."""
    one = dataclasses.replace(sam2.config, stability=(4.0, 0.999), fill_hole_area=0)
    other = dataclasses.replace(one, stability=None, binarize_clicks=False, fill_hole_area=30)
    results = []
    for habits in (one, other):
        model = with_habits(sam2, **{f.name: getattr(habits, f.name) for f in FIELDS})
        first = answered(sam2, frame, CORNERS, habits=habits)
        again = answered(sam2, frame, CORNERS, previous=10 * first.low_res_logits, habits=habits)
        expected = answered(model, frame, CORNERS, previous=10 * first.low_res_logits)
        memory = tokens(sam2, frame, first, habits=habits)
        results.append((first.low_res_logits, again.low_res_logits, memory))

        assert torch.equal(again.low_res_logits, expected.low_res_logits)
        assert torch.equal(memory, tokens(model, frame, first))
    assert not any(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert sam2.config == TINY_SAM2


FIELDS = dataclasses.fields(TrackingHabits)


@torch.no_grad()
def test_prompts_without_a_mask_start_from_the_answer_before(
    sam2: SAM2, frame: FrameFeatures
) -> None:
    """A rough mask of a prompt's own counts instead, and one on its way in is limited to 32."""
    before = answered(sam2, frame, CLICK).low_res_logits
    rough = Prompt(CORNERS.points, CORNERS.labels, mask=before[0].numpy() + 1)
    fresh = answered(sam2, frame, CORNERS).low_res_logits
    redrawn = answered(sam2, frame, CORNERS, previous=before).low_res_logits
    own = answered(sam2, frame, rough, previous=before).low_res_logits
    sure = [answered(sam2, frame, CORNERS, previous=n * (before.sign() + 0.5)) for n in (80, 900)]

    assert not torch.equal(fresh, redrawn)
    assert torch.equal(own, answered(sam2, frame, rough).low_res_logits)
    assert not torch.equal(own, redrawn)
    assert torch.equal(sure[0].low_res_logits, sure[1].low_res_logits)


class Forgetful(SAM2):
    """A SAM 2 that remembers nothing but zeros."""

    def encode_memory(self, *arguments: Any) -> Tensor:
        """Return zeros of the right shape."""
        return 0 * super().encode_memory(*arguments)


@torch.no_grad()
def test_a_subclass_is_heeded(sam2: SAM2, frame: FrameFeatures) -> None:
    """The steps go through the methods of the model they are given."""
    model = Forgetful(TINY_SAM2, "tiny", TINY_SAM2_POLICY)
    model.load_state_dict(sam2.state_dict())
    outputs = answered(model, frame, CLICK)

    assert not tokens(model, frame, outputs).any()
    assert tokens(sam2, frame, outputs).any()


@torch.no_grad()
def test_an_object_without_an_answer_is_shown_empty(sam2: SAM2, frame: FrameFeatures) -> None:
    """Its scores are 0 and -1024; the others are as they were decoded."""
    (row,) = answered(sam2, frame, CLICK).rows()
    shown = show(sam2, frame, 3, 0.12, {4: row, 9: None})

    assert (shown.index, shown.time_s, shown.object_ids) == (3, 0.12, (4, 9))
    assert shown.iou_scores.tolist() == [np.float32(row[1]), 0]
    assert shown.object_score_logits.tolist() == [np.float32(row[2]), -1024]
    assert (shown.low_res_logits[1] == -1024).all()
    assert not shown.masks[1].any()
    assert show(sam2, frame, 0, 0.0, {}).masks.shape == (0, 48, 64)


@pytest.mark.parametrize("area", [0, 4, 30])
def test_holes_and_specks_are_filled_as_in_a_reference(area: int) -> None:
    """As labelling with scipy.ndimage says: parts up to the area change, larger ones do not."""
    logits = torch.from_numpy(
        ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(64, 64)), 1.0)
    ).float()
    mask = logits.numpy() > 0
    expected = mask.copy()
    for wanted in (False, True):  # holes, then specks
        labels, count = ndimage.label(expected == wanted, np.ones((3, 3)))
        for label in range(1, count + 1):
            if (labels == label).sum() <= area:
                expected[labels == label] = not wanted
    result = cleaned(logits, area)

    assert np.array_equal(result.numpy() > 0, expected)
    assert (expected != mask).any() == (area > 0)
    assert torch.equal(result[torch.from_numpy(expected == mask)], logits[expected == mask])
    assert set(result[torch.from_numpy(expected != mask)].abs().tolist()) <= {np.float32(0.1)}
