"""The loss of a clip: SAM 2's mixture, checked against sums worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nexus.core.errors import InputError
from nexus.core.types import Geometry
from nexus.train.video.clip_forward import Answer, ClipLogits
from nexus.train.video.clip_sampling import ClipSample
from nexus.train.video.loss import VideoLossSettings, video_loss

SURE = 20.0
GEOMETRY = Geometry((4, 4), (64, 64), 64, (16.0, 16.0))
SQUARE = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)


def sample_of(*masks: np.ndarray, ignored: np.ndarray | None = None) -> ClipSample:
    """Return a clip of frames of 4 x 4 pixels with one object."""
    count = len(masks)
    nothing = np.zeros((4, 4), bool)
    return ClipSample(
        video="hand",
        indices=tuple(range(count)),
        frames=tuple(np.zeros((4, 4, 3), np.uint8) for _ in masks),
        masks=np.stack(masks)[:, None],
        ignored=np.stack([nothing if ignored is None else ignored] * count),
        object_ids=(7,),
        kind="mask",
        corrected=(),
        clicks=0,
        rng=np.random.default_rng(0),
    )


def shown_of(*answers: tuple[list[np.ndarray], list[float], float] | None) -> ClipLogits:
    """Return one answer or none for each frame: candidates, their scores, the object score."""
    made = []
    for one in answers:
        if one is None:
            made.append(())
            continue
        candidates, scores, there = one
        logits = torch.tensor(np.stack(candidates)).float() * 2 * SURE - SURE
        made.append((Answer((7,), logits[None], torch.tensor([scores]), torch.tensor([there])),))
    count = len(answers)
    return ClipLogits(
        (7,),
        torch.zeros(count, 1, 4, 4),
        torch.zeros(count, 1),
        torch.zeros(count, 1),
        tuple(made),
        GEOMETRY,
    )


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    """Return plain numbers."""
    return {name: float(value) for name, value in losses.items()}


def test_a_perfect_answer_costs_nothing() -> None:
    """Right mask, right score, right presence: every summand is 0."""
    losses = video_loss(shown_of(([SQUARE], [1.0], SURE)), sample_of(SQUARE))

    assert values(losses) == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-4)


def test_the_best_candidate_learns_and_all_scores_do() -> None:
    """A wrong candidate costs no mask loss, and its score of 0.9 instead of 0 half of 0.9."""
    losses = video_loss(shown_of(([~SQUARE, SQUARE], [0.9, 1.0], SURE)), sample_of(SQUARE))

    assert float(losses["focal"]) == pytest.approx(0, abs=1e-4)
    assert float(losses["dice"]) == pytest.approx(0, abs=1e-4)
    assert float(losses["iou"]) == pytest.approx(0.45, abs=1e-4)


def test_an_absent_object_teaches_its_absence_alone() -> None:
    """A mask drawn of an object that is not there costs nothing but its object score."""
    losses = video_loss(shown_of(([SQUARE], [1.0], 3.0)), sample_of(np.zeros_like(SQUARE)))
    wanted = {"focal": 0.0, "dice": 0.0, "iou": 0.0, "object_score": float(np.log1p(np.exp(3.0)))}

    assert values(losses) == pytest.approx({"loss": wanted["object_score"], **wanted}, abs=1e-5)


def test_answers_are_averaged_over_frames() -> None:
    """A frame that is right and one that is all wrong cost half of the wrong one."""
    wrong, right = ([~SQUARE], [0.0], SURE), ([SQUARE], [1.0], SURE)
    alone = video_loss(shown_of(wrong), sample_of(SQUARE))
    both = video_loss(shown_of(wrong, right), sample_of(SQUARE, SQUARE))

    assert float(alone["dice"]) > 0.9
    assert float(both["loss"]) == pytest.approx(float(alone["loss"]) / 2, rel=1e-4)


def test_frames_without_an_answer_do_not_count() -> None:
    """A frame whose mask was given is neither right nor wrong."""
    wrong = ([~SQUARE], [0.0], SURE)
    alone = video_loss(shown_of(wrong), sample_of(SQUARE))
    after = video_loss(shown_of(None, wrong), sample_of(SQUARE, SQUARE))

    assert values(after) == pytest.approx(values(alone))


def test_ignored_pixels_count_for_nothing() -> None:
    """What is drawn on ignored pixels is neither mask loss nor IoU error."""
    ignored = np.zeros_like(SQUARE)
    ignored[:, 2:] = True
    drawn = SQUARE | ignored
    losses = video_loss(shown_of(([drawn], [1.0], SURE)), sample_of(SQUARE, ignored=ignored))

    assert values(losses) == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-4)


def test_an_object_under_ignored_pixels_is_absent() -> None:
    """An object all of whose pixels are ignored is not said to be there."""
    losses = video_loss(shown_of(([SQUARE], [1.0], -SURE)), sample_of(SQUARE, ignored=SQUARE))

    assert values(losses) == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-4)


def test_the_weights_weigh_the_sum() -> None:
    """The loss is the sum of the summands times their weights."""
    weights = VideoLossSettings(focal=2.0, dice=3.0, iou=5.0, object_score=7.0)
    losses = values(video_loss(shown_of(([~SQUARE], [0.3], 1.0)), sample_of(SQUARE), weights))
    summands = {"focal": 2.0, "dice": 3.0, "iou": 5.0, "object_score": 7.0}

    assert min(losses.values()) > 0
    assert losses["loss"] == pytest.approx(sum(w * losses[name] for name, w in summands.items()))


def test_a_clip_without_answers_has_no_loss() -> None:
    """A single frame whose mask was given teaches nothing."""
    with pytest.raises(InputError) as caught:
        video_loss(shown_of(None), sample_of(SQUARE))

    assert "expected at least one answer of the decoder, got none" in str(caught.value)
