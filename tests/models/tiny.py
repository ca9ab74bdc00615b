"""A SAM small enough for every test: 64 pixels, width 16, two blocks, random weights."""

from __future__ import annotations

import dataclasses

import torch

from nexus.models.cv.sam import SAM, SAMConfig
from nexus.models.policy import SAM_POLICY, Policy
from nexus.nn.tiny_vit import TinyViTConfig
from nexus.nn.vit import ViTConfig

TINY_POLICY = dataclasses.replace(SAM_POLICY, input_side=64)
TINY = SAMConfig(
    ViTConfig(
        width=16, depth=2, heads=2, global_blocks=(1,), input_side=64, window=3, out_channels=16
    ),
    dim=16,
    mask_channels=4,
    decoder_hidden=32,
    iou_hidden=16,
)
TINY_CONVOLUTIONAL = dataclasses.replace(
    TINY,
    encoder=TinyViTConfig((8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 2, 2), classes=0, out_channels=16),
)


def tiny_sam(
    seed: int = 0, config: SAMConfig = TINY, policy: Policy = TINY_POLICY, variant: str = "tiny"
) -> SAM:
    """Build it; equal seeds give equal weights."""
    torch.manual_seed(seed)
    model = SAM(config, variant, policy)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model
