from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.dataset.settings import describe_generator
from tests.models.tiny import tiny_sam


def generator(seed: int = 0, **settings: Any) -> SAMAutomaticMaskGenerator:
    """Return a generator with a tiny model."""
    return SAMAutomaticMaskGenerator(tiny_sam(seed), **settings)


def test_equal_generators_are_described_alike() -> None:
    """The description is JSON, and the same for the same weights and settings."""
    one = describe_generator(generator(points_per_side=8))

    assert one == describe_generator(generator(points_per_side=8)) == json.loads(json.dumps(one))
    assert one["generator"] == "SAMAutomaticMaskGenerator"
    assert one["settings"]["points_per_side"] == 8
    assert one["model"]["variant"] == "tiny"
    assert one["model"]["dtype"] == ["float32"]


def test_what_changes_masks_changes_the_description() -> None:
    """Weights, a weight of the decoder alone, settings, policy and number format count."""
    plain = describe_generator(generator())
    decoder, policy, half = generator(), generator(), generator()
    with torch.no_grad():
        next(iter(decoder.model.mask_decoder.parameters())).add_(1)
    policy.model.policy = dataclasses.replace(policy.model.policy, mask_threshold=0.5)
    half.model.to(torch.bfloat16)

    for other in (generator(1), generator(crop_n_layers=1), decoder, policy, half):
        assert describe_generator(other) != plain


def test_what_changes_no_mask_does_not() -> None:
    """The way masks are handed over and how many are made at a time are left out."""
    other = generator(output_mode="coco_rle", points_per_batch=3)

    assert describe_generator(other) == describe_generator(generator())


def test_arrays_are_told_by_their_content() -> None:
    """Point grids are compared by value, and what is unknown by its class."""
    one, same, other = (
        describe_generator(SimpleNamespace(settings={"grid": [np.full((2, 2), v)], "f": print}))
        for v in (1, 1, 2)
    )

    assert one == same != other
    assert one["settings"]["f"] == "builtin_function_or_method"


def test_a_bare_object_is_its_class() -> None:
    """Without settings and model there is the class alone."""
    assert describe_generator(SimpleNamespace()) == {"generator": "SimpleNamespace"}
