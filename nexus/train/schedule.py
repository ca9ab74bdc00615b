"""The learning rate over a run, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nexus.core.errors import CheckpointError
from nexus.train.config import OptimizerSettings


def learning_rate(settings: OptimizerSettings, step: int, progress: float) -> float:
    """Return the learning rate of a step, from 0, when a share `progress` of the run is over."""
    highest, last = settings.learning_rate, settings.final_share
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    progress = min(max(progress, 0.0), 1.0)
    fall = {
        "cosine": last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": last + (1 - last) * (1 - progress),
        "constant": 1.0,
    }[settings.schedule]
    return highest * warm * fall


def decayed_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float, encoder_share: float = 1.0
) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay, biases, norms and single tokens do not.

    `share` of a group is what its learning rate is of the others', `encoder_share` for the image
    encoder and 1 for the rest.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in parameters:
        share = encoder_share if name.startswith("image_encoder.") else 1.0
        decay = weight_decay if p.ndim > 1 and p.shape[0] > 1 else 0.0
        groups.setdefault((decay, share), []).append(p)
    return [
        {"params": params, "weight_decay": decay, "share": share}
        for (decay, share), params in groups.items()
    ]


class Average:
    """An exponential moving average of weights.

    The first steps decay faster, by (1 + n) / (10 + n) at most, so that a short run does not keep
    the weights it began with. `parameters` are those that learn, by name.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in parameters.items()}

    def update(self, parameters: Mapping[str, nn.Parameter], steps: int) -> None:
        """Move the average towards the weights after `steps` steps."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        with torch.no_grad():
            mine = list(self.weights.values())
            torch._foreach_lerp_(mine, [p.detach() for p in parameters.values()], 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up the average of an earlier run.

        Raises:
            CheckpointError: It is of other weights.
        """
        if set(weights) != set(self.weights):
            raise CheckpointError(
                f"expected an average of {len(self.weights)} weights, got one of {len(weights)}",
                hint="begin anew in another folder",
            )
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)

    @contextmanager
    def in_place(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """Let the model have the average for the length of a block."""
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            _fill(parameters, self.weights)
            yield
        finally:
            _fill(parameters, kept)


def _fill(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
