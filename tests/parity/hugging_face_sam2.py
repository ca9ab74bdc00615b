"""Give transformers' SAM 2 the weights of ours, image and video parts alike."""

from __future__ import annotations

import re
import warnings
from typing import Any

import torch
from torch import Tensor

from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.nn.hiera import HieraConfig

# Our names, which are the official ones, and theirs, in the order they are replaced.
_NAMES = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (
        r"pe_layer\.positional_encoding_gaussian_matrix",
        "shared_embedding.positional_embedding",
    ),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"((?:_mlps\.\d|_head|_pointer_proj)\.)layers\.0\.", r"\1proj_in."),
    (r"((?:_mlps\.\d|_head|_pointer_proj)\.)layers\.2\.", r"\1proj_out."),
    (r"((?:_mlps\.\d|_head|_pointer_proj)\.)layers\.1\.", r"\1layers.0."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"\.out_proj\.(?=weight|bias)", ".o_proj."),
    (r"^memory_encoder\.o_proj\.", "memory_encoder.projection."),
    (r"pix_feat_proj\.", "feature_projection."),
    (r"mask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
    (r"fuser\.layers\.(\d)\.gamma", r"memory_fuser.layers.\1.scale"),
    (r"fuser\.layers\.(\d)\.dwconv", r"memory_fuser.layers.\1.depthwise_conv"),
    (r"fuser\.layers\.(\d)\.pwconv", r"memory_fuser.layers.\1.pointwise_conv"),
    (r"\.fuser\.layers\.(\d)\.norm", r".memory_fuser.layers.\1.layer_norm"),
    (r"\.norm(\d?|_final_attn)\.(?=weight|bias)", r".layer_norm\1."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
)


def their_state(model: SAM2) -> dict[str, Tensor]:
    """Return the weights of our model under their names."""
    state, points = {}, []
    for name, tensor in model.state_dict().items():
        if ".point_embeddings." in name:
            points.append(tensor)
            continue
        downsampler = re.match(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(\w+)", name)
        if downsampler and int(downsampler[1]) < 12:
            step, part = divmod(int(downsampler[1]), 3)
            kind = ("conv", "layer_norm")[part]
            state[f"memory_encoder.mask_downsampler.layers.{step}.{kind}.{downsampler[2]}"] = tensor
            continue
        for ours, theirs in _NAMES:
            name = re.sub(ours, theirs, name)
        state[name] = tensor
    state["prompt_encoder.point_embed.weight"] = torch.cat(points)
    shared = state["prompt_encoder.shared_embedding.positional_embedding"]
    state["shared_image_embedding.positional_embedding"] = shared
    return state


def backbone_settings(trunk: HieraConfig) -> dict[str, Any]:
    """Return the sizes of a trunk in their words."""
    return {
        "hidden_size": trunk.width,
        "num_attention_heads": trunk.heads,
        "blocks_per_stage": list(trunk.depths),
        "embed_dim_per_stage": list(trunk.stage_widths),
        "num_attention_heads_per_stage": [trunk.heads * 2**stage for stage in range(4)],
        "window_size_per_stage": list(trunk.windows),
        "global_attention_blocks": list(trunk.global_blocks),
        "window_positional_embedding_background_size": [trunk.position_side] * 2,
    }


def their_image_model(ours: SAM2) -> Any:
    """Build transformers' image model of the same size, with the same weights."""
    config: SAM2Config = ours.config
    if not isinstance(config.trunk, HieraConfig):
        raise TypeError("only Hiera trunks have a counterpart there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

        vision = Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(**backbone_settings(config.trunk)),
            backbone_channel_list=list(config.trunk.stage_widths)[::-1],
        )
        with torch.device("meta"):
            model = Sam2Model(Sam2Config(vision_config=vision))
    state = their_state(ours)
    # The image model has no memory.
    wanted = {name: state[name] for name in model.state_dict()}
    model.load_state_dict(wanted, strict=True, assign=True)
    # Buffers outside the checkpoint are left on the meta device by the line above.
    for name, buffer in model.named_buffers():
        if buffer.is_meta:
            raise TypeError(f"expected every buffer to be in the checkpoint, got {name}")
    return model.eval()


def their_video_model(ours: SAM2, side: int) -> Any:
    """Build transformers' video model for frames of one size, with the same weights."""
    config: SAM2Config = ours.config
    if not isinstance(config.trunk, HieraConfig):
        raise TypeError("only Hiera trunks have a counterpart there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import (
            Sam2HieraDetConfig,
            Sam2VideoConfig,
            Sam2VideoModel,
            Sam2VideoPromptEncoderConfig,
            Sam2VisionConfig,
        )

        vision = Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(
                **backbone_settings(config.trunk), image_size=[side, side]
            ),
            backbone_channel_list=list(config.trunk.stage_widths)[::-1],
            backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
        )
        model = Sam2VideoModel(
            Sam2VideoConfig(
                vision_config=vision,
                prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=side),
                image_size=side,
                memory_attention_rope_feat_sizes=[side // 16] * 2,
                memory_attention_num_layers=config.memory_layers,
                memory_attention_feed_forward_hidden_size=config.hidden,
            )
        )
    model.load_state_dict(their_state(ours), strict=True)
    return model.eval()
