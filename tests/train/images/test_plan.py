"""Which objects a step learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from nexus.train.config import PromptSettings
from nexus.train.images.plan import Call, ObjectPlan
from nexus.train.images.sets import TrainingObject


def keys(calls: Sequence[Call]) -> list[tuple[str, int, str]]:
    """Return what tells rows apart."""
    return [
        (row.view.name, int(row.truth.sum() * 64), call.kind)
        for call in calls
        for row in call.views
    ]


def test_an_epoch_has_every_object_once(objects: list[TrainingObject]) -> None:
    """Four steps of two rows go through eight objects, and the next four in another order."""
    plan = ObjectPlan(objects, PromptSettings(), seed=1, rows=2)
    seen = [
        (row.view.image.name, row.truth.tobytes())
        for step in range(4)
        for call in plan.calls(step)
        for row in call.views
    ]

    known = {
        (view.view.image.name, view.truth.tobytes()): index
        for index, one in enumerate(objects)
        for view in one
    }
    assert sorted(known[row] for row in seen) == list(range(8))


def test_processes_share_the_rows_of_one(objects: list[TrainingObject]) -> None:
    """The rows of two processes are, in order, those of one with a doubled batch."""
    double = ObjectPlan(objects, PromptSettings(), seed=5, rows=4, accumulation=2)
    half = ObjectPlan(objects, PromptSettings(), seed=5, rows=2, accumulation=2)

    for step in (0, 7):
        whole = double.calls(step)
        parts = [half.calls(step, process, 2) for process in (0, 1)]
        for number, call in enumerate(whole):
            both = [*keys([parts[0][number]]), *keys([parts[1][number]])]
            assert keys([call]) == both
            assert {parts[0][number].mask_prompts, call.mask_prompts} == {call.mask_prompts}


def test_kinds_come_by_their_shares(objects: list[TrainingObject]) -> None:
    """Any stretch of a hundred steps has each kind as often as its share says, within two."""
    prompts = PromptSettings({"centre": 0.5, "box": 0.3, "random": 0.2})
    plan = ObjectPlan(objects, prompts, seed=2, rows=1)

    counts = Counter(plan.calls(step)[0].kind for step in range(40, 140))

    assert counts["centre"] == pytest.approx(50, abs=2)
    assert counts["box"] == pytest.approx(30, abs=2)
    assert counts["random"] == pytest.approx(20, abs=2)


def test_a_near_box_is_answered_once(objects: list[TrainingObject]) -> None:
    """It has no truth to correct it by; other boxes have as many rounds as are set."""
    prompts = PromptSettings({"near_box": 0.5, "box": 0.5}, rounds=3, box_rounds=2)
    plan = ObjectPlan(objects, prompts, seed=0, rows=1)

    calls = [call for step in range(8) for call in plan.calls(step)]

    assert {call.kind: 1 + len(call.mask_prompts) for call in calls} == {"near_box": 1, "box": 2}
