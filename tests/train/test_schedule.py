"""Learning rate, weight decay and the moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nexus.core.errors import CheckpointError
from nexus.train.config import OptimizerSettings
from nexus.train.schedule import Average, decayed_groups, learning_rate


@pytest.mark.parametrize(
    ("schedule", "middle", "end"),
    [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1, 1)],
)
def test_the_rate_rises_and_falls(schedule: str, middle: float, end: float) -> None:
    """It rises over the warm-up, and ends where `final_share` says."""
    settings = OptimizerSettings(
        steps=10,
        learning_rate=1.0,
        warmup_steps=4,
        final_share=0.1,
        schedule=schedule,  # type: ignore[arg-type]
    )

    assert [learning_rate(settings, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert learning_rate(settings, 9, 0.5) == pytest.approx(middle)
    assert learning_rate(settings, 9, 1.0) == pytest.approx(end)


def test_matrices_decay_alone() -> None:
    """Biases, norms and single tokens are in the group without weight decay."""
    layer = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Embedding(1, 4))

    decayed, kept = decayed_groups(layer.named_parameters(), 0.1)

    assert decayed["params"] == [layer[0].weight]
    assert decayed["weight_decay"] == 0.1
    assert len(kept["params"]) == 4  # type: ignore[arg-type]
    assert kept["weight_decay"] == 0.0


def test_the_encoder_has_a_rate_of_its_own() -> None:
    """Its groups have their share of the rate, the others the whole; weights decay as ever."""
    model = nn.ModuleDict({"image_encoder": nn.Linear(3, 2), "decoder": nn.Linear(3, 2)})

    groups = decayed_groups(model.named_parameters(), 0.1, encoder_share=0.6)

    assert [(g["share"], g["weight_decay"]) for g in groups] == [
        (0.6, 0.1), (0.6, 0.0), (1.0, 0.1), (1.0, 0.0)
    ]  # fmt: skip


def test_the_average_follows_and_stands_in() -> None:
    """It moves by 1 - decay, faster at first, and is in the model for a block alone."""
    weight = nn.Parameter(torch.zeros(1))
    learning = {"w": weight}
    average = Average(learning, 0.9)
    with torch.no_grad():
        weight.fill_(1.0)

    average.update(learning, 1)
    assert float(average.weights["w"]) == pytest.approx(1 - 2 / 11)
    average.update(learning, 10_000)
    assert float(average.weights["w"]) == pytest.approx(1 - 0.9 * 2 / 11)
    with average.in_place(learning):
        assert weight.item() == pytest.approx(1 - 0.9 * 2 / 11)
    assert weight.item() == 1.0


def test_an_average_of_other_weights_is_refused() -> None:
    """The message counts them."""
    average = Average({"w": nn.Parameter(torch.zeros(1))}, 0.9)

    with pytest.raises(CheckpointError, match="expected an average of 1 weights, got one of 0"):
        average.load({})
