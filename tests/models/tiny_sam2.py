"""A SAM 2 and an EdgeTAM small enough for every test: 64 pixels, width 8, random weights."""

from __future__ import annotations

import dataclasses

import torch

from nexus.models.cv.edgetam import EdgeTAM
from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.models.policy import SAM2_POLICY
from nexus.nn.hiera import HieraConfig
from nexus.nn.repvit import RepViTConfig

TINY_SAM2_POLICY = dataclasses.replace(SAM2_POLICY, input_side=64)
TINY_SAM2 = SAM2Config(
    HieraConfig(
        width=8, depths=(1, 1, 2, 1), global_blocks=(3,), position_side=3, windows=(4, 2, 6, 3)
    ),
    dim=16,
    memory_dim=8,
    memory_layers=2,
    hidden=32,
)
TINY_EDGETAM = dataclasses.replace(
    TINY_SAM2,
    trunk=RepViTConfig((8, 8, 16, 16), (1, 2, 1, 1)),
    latents=4,
    marks_occlusion=False,
    times_pointers=False,
)


def tiny_sam2(seed: int = 0, config: SAM2Config = TINY_SAM2) -> SAM2:
    """Build it; equal seeds give equal weights."""
    torch.manual_seed(seed)
    cls = EdgeTAM if config.latents else SAM2
    model = cls(config, "tiny", TINY_SAM2_POLICY)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith("gamma"):
                parameter.fill_(1)
        # Sure enough that there is an object, so that masks are not blanked.
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5)
    return model
