"""Settings of a run, made in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nexus.core.errors import InputError
from nexus.train.config import (
    AdaptSettings,
    AugmentSettings,
    DataSettings,
    EvaluateSettings,
    LoraSettings,
    LossSettings,
    OptimizerSettings,
    PromptSettings,
    SetSettings,
    SetsSettings,
    TrainingSettings,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerSettings(steps=0), "expected steps of at least 1, got 0"),
        (lambda: OptimizerSettings(steps=1, minutes=1.0), "either steps or minutes, got both"),
        (lambda: PromptSettings(mask_prompt=1.5), "expected mask_prompt from 0 to 1, got 1.5"),
        (lambda: PromptSettings({"box": -1.0}), "expected shares of first prompts"),
        (lambda: SetsSettings(()), "expected at least one entry of sets, got none"),
        (
            lambda: DataSettings((SetSettings("a/x"), SetSettings("b/x"))),
            "expected sets with names of their own, got 'x' twice",
        ),
        (lambda: AugmentSettings(()), "expected at least one of views or random_views"),
        (lambda: AugmentSettings(scale=(2.0, 1.0)), r"expected scale \[smallest, largest\]"),
        (
            lambda: EvaluateSettings(("box",), choose=("clicks",)),
            "expected choose among measures, got also clicks",
        ),
        (
            lambda: TrainingSettings(
                DataSettings((SetSettings("a"),)),
                OptimizerSettings(steps=1),
                adapt=AdaptSettings("full"),
                loss=LossSettings(keep=1.0),
            ),
            "expected loss.keep 0 where the encoder learns, got 1",
        ),
        (
            lambda: TrainingSettings(
                DataSettings((SetSettings("a"),)),
                OptimizerSettings(steps=1),
                prompts=PromptSettings({"centre": 0.8, "near_box": 0.2}),
            ),
            "expected loss.keep above 0 for prompts.first.near_box, got 0",
        ),
    ],
)
def test_values_that_make_no_sense(make: Callable[[], Any], message: str) -> None:
    """A value out of its range, or at odds with another, is refused."""
    with pytest.raises(InputError, match=message):
        make()


def test_what_follows_from_settings() -> None:
    """Whether clicks are taught and whether the encoder learns follows from the settings."""
    boxes = {"box": 1.0, "centre": 0.0}

    assert not PromptSettings(boxes).clicks  # type: ignore[arg-type]
    assert PromptSettings(boxes, box_rounds=2).clicks  # type: ignore[arg-type]
    assert PromptSettings({"inner": 0.1, "box": 1}).clicks
    assert AdaptSettings("full").encoder_learns
    assert not AdaptSettings("lora", LoraSettings(where="decoder")).encoder_learns
    assert AdaptSettings("lora", LoraSettings(where="both")).encoder_learns
