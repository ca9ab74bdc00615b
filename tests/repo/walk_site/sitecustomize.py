"""What makes the commands of the documents quick; every Python the walk starts loads this first.

The commands are run as they are printed. Weights that are not on this machine give way to a tiny
model of the same family with random ones, a run of training ends after a few steps, and a grid of
points is coarse. Nothing else is other than for a user.
"""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

MOST_STEPS = 2
MOST_POINTS_PER_SIDE = 4
TINY_SIDE_PX = 64
SURE = 1e4  # times the logits of a random decoder: masks that no threshold makes another


def tiny_models(module: ModuleType) -> None:
    """Let `from_pretrained` return a tiny model where the weights are not on this machine."""
    from nexus.core.weights.hub import cached
    from nexus.models.registry import MODELS

    real = module.PretrainedModel.from_pretrained.__func__

    def from_pretrained(cls: Any, name: str, **placement: Any) -> Any:
        spec = MODELS.get(name)
        if spec is None or cached(spec.file) is not None:
            return real(cls, name, **placement)
        from tests.models.tiny import tiny_sam
        from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2

        if spec.family in ("sam2", "edgetam"):
            model: Any = tiny_sam2(config=TINY_EDGETAM if spec.family == "edgetam" else TINY_SAM2)
            model.frontend.variant = name
            return model
        policy = dataclasses.replace(spec.policy, input_side=TINY_SIDE_PX)
        return sure_of_itself(tiny_sam(policy=policy, variant=name))

    module.PretrainedModel.from_pretrained = classmethod(from_pretrained)


def sure_of_itself(model: Any) -> Any:
    """Let the masks of a model with random weights have scores that usual thresholds pass."""
    import torch

    with torch.no_grad():
        *_, last = model.mask_decoder.iou_prediction_head.layers
        last.weight.zero_()
        last.bias.fill_(0.95)
        for head in model.mask_decoder.output_hypernetworks_mlps:
            *_, last = head.layers
            last.weight.mul_(SURE)
            last.bias.mul_(SURE)
    return model


def short_training(module: ModuleType) -> None:
    """Let `fine_tune` take a few steps, whatever its settings say."""
    real = module.fine_tune

    def fine_tune(settings: Any, *given: Any, **more: Any) -> Any:
        steps = min(settings.optimizer.steps or MOST_STEPS, MOST_STEPS)
        optimizer = dataclasses.replace(settings.optimizer, steps=steps, minutes=None)
        return real(dataclasses.replace(settings, optimizer=optimizer), *given, **more)

    module.fine_tune = fine_tune


def coarse_grids(module: ModuleType) -> None:
    """Let automatic masks ask about few points of an image."""
    real = module.settings_for

    def settings_for(model: Any, overrides: Any) -> Any:
        settings = real(model, overrides)
        side = settings.points_per_side
        if side is None:
            return settings
        return dataclasses.replace(settings, points_per_side=min(side, MOST_POINTS_PER_SIDE))

    module.settings_for = settings_for


CHANGES = {
    "nexus.models.pretrained": tiny_models,
    "nexus.train.loop": short_training,
    "nexus.predict.automatic.settings": coarse_grids,
}


class Changing(importlib.abc.MetaPathFinder):
    """Finds the modules of `CHANGES`, and changes each when it has been loaded."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Return the usual place of a module, with a loader that changes it at the end."""
        change = CHANGES.get(fullname)
        spec = None if change is None else importlib.machinery.PathFinder.find_spec(fullname, path)
        if change is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Changing())
