"""A model of which some weights learn, and how it becomes a checkpoint again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from nexus.models.pretrained import PretrainedModel
from nexus.train.config import AdaptSettings
from nexus.train.freezing import freeze, training_mode
from nexus.train.lora import add_lora, merge, save_adapter
from nexus.train.weights import save_checkpoint


class Adapted:
    """A model under a policy of what learns.

    Args:
        model: It is changed: weights are frozen, adapters put in.
        settings: The policy.

    Raises:
        InputError: The model has nothing that the policy would train.
        MissingDependencyError: LoRA is asked for, and peft is not installed.
    """

    def __init__(self, model: PretrainedModel, settings: AdaptSettings) -> None:
        self.model = model
        self.has_adapter = settings.policy == "lora"
        if self.has_adapter:
            lora = settings.lora
            add_lora(model, lora.rank, lora.alpha, lora.dropout, lora.targets, lora.where)
        freeze(model, settings.policy)

    def learning(self) -> dict[str, nn.Parameter]:
        """Return the weights that learn, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def training_mode(self) -> None:
        """Let what learns behave as in training."""
        training_mode(self.model)

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write a checkpoint with official names, adapters merged into the weights."""
        model: nn.Module = self.model
        if self.has_adapter:
            model = merge(copy.deepcopy(self.model))
        save_checkpoint(model, path, metadata)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter, if there is one."""
        if self.has_adapter:
            save_adapter(self.model, folder)
