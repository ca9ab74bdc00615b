"""SAM, and every model of its architecture: MobileSAM, MedSAM, LiteMedSAM.

Follows "Segment Anything" (arXiv 2304.02643) and the official segment-anything code; MobileSAM is
"Faster Segment Anything" (arXiv 2306.14289), MedSAM "Segment Anything in Medical Images"
(arXiv 2304.12306).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from nexus.core.checkpoint import load_strict, read_checkpoint
from nexus.core.device import resolve_device, resolve_dtype
from nexus.core.errors import CheckpointError, InputError, UnknownModelError
from nexus.core.hub import fetch
from nexus.core.hub_folder import fetch_hub_folder, weights_in
from nexus.core.types import ImageEmbedding
from nexus.models.frame import FramePrompts, with_input_side
from nexus.models.policy import SAM_POLICY, Policy
from nexus.models.promptable import Frontend, PromptableModel
from nexus.models.registry import CLASS_OF_FAMILY, MODELS, is_hub_id, model_spec
from nexus.nn.encoder import ImageEncoder
from nexus.nn.mask_decoder import MaskDecoder
from nexus.nn.prompt_encoder import PromptEncoder
from nexus.nn.tiny_vit import TinyViT, TinyViTConfig
from nexus.nn.vit import ViT, ViTConfig


@dataclass(frozen=True)
class SAMConfig:
    """Sizes of a SAM.

    Attributes:
        encoder: Sizes of the image encoder.
        dim: Channels of features and prompt embeddings.
        mask_channels: Channels of a mask prompt before its last projection.
        decoder_heads: Attention heads of the mask decoder.
        decoder_hidden: Width of the mask decoder's MLPs.
        iou_hidden: Width of the score head.
    """

    encoder: ViTConfig | TinyViTConfig
    dim: int = 256
    mask_channels: int = 16
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    iou_hidden: int = 256


_VIT_B = SAMConfig(ViTConfig())

VARIANTS: dict[str, SAMConfig] = {
    "sam_vit_b": _VIT_B,
    "sam_vit_l": SAMConfig(
        ViTConfig(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
    ),
    "sam_vit_h": SAMConfig(
        ViTConfig(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))
    ),
    "mobile_sam": SAMConfig(TinyViTConfig()),
    "medsam_vit_b": _VIT_B,
    "lite_medsam": SAMConfig(TinyViTConfig(patch_stride=1, classes=0)),
}


class SAM(PromptableModel):
    """Segment Anything: points, boxes and masks in, masks out.

    Examples:
        sam = SAM.from_pretrained("sam_vit_b")
        embedding = sam.encode_image("image.jpg")
        masks = sam.predict(image_embedding=embedding, prompt=(x, y))
    """

    families: ClassVar[tuple[str, ...]] = ("sam", "medsam")

    def __init__(self, config: SAMConfig, variant: str = "sam", policy: Policy = SAM_POLICY):
        encoder: ImageEncoder = (
            ViT(config.encoder)
            if isinstance(config.encoder, ViTConfig)
            else TinyViT(config.encoder)
        )
        super().__init__(encoder, Frontend(variant, policy))
        self.prompt_encoder = PromptEncoder(config.dim, config.mask_channels)
        self.mask_decoder = MaskDecoder(
            config.dim, config.decoder_heads, config.decoder_hidden, iou_hidden=config.iou_hidden
        )
        self.config = config
        self.eval()

    def image_positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """Return the position code of a feature grid, (1, C, gh, gw)."""
        return self.prompt_encoder.dense_positions(grid_hw)

    def decode(
        self, embedding: ImageEmbedding, image_pe: Tensor, prompts: FramePrompts, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Decode prompts in the model frame: logits (P, M, 4 gh, 4 gw) and scores (P, M)."""
        sparse, dense = self.prompt_encoder(
            prompts.point_coords,
            prompts.point_labels,
            prompts.mask_input,
            embedding.geometry.input_side,
        )
        features = embedding.features.unsqueeze(0).to(sparse.dtype)
        return self.mask_decoder(features, image_pe, sparse, dense, several)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        input_side: int | None = None,
    ) -> Self:
        """Load published weights, fetching them the first time.

        Args:
            name: A name of `nexus models`, or the Hugging Face id ('owner/name') of a repository
                in the layout of `facebook/sam-vit-base`.
            device: None takes CUDA, MPS or the CPU, the first that is present.
            dtype: 'float32' (None), 'bfloat16' or 'float16'.
            input_side: Side of the model frame, a multiple of 16; None takes the trained one.

        Raises:
            UnknownModelError: No such name, or a model of another class.
            WeightsNotFoundError: Not cached, and offline.
            DownloadError: Every source failed.
        """
        placement = resolve_device(device), resolve_dtype(dtype)
        if is_hub_id(name):
            return cls._from_folder(fetch_hub_folder(name), name)._placed(*placement, input_side)
        spec = model_spec(name)
        cls._check_family(name)
        return cls._from_file(fetch(spec.file), name)._placed(*placement, input_side)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        variant: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        input_side: int | None = None,
    ) -> Self:
        """Load weights from a file, or from a folder in Hugging Face's layout.

        Args:
            path: A .pth, .pt or .safetensors file with official or Hugging Face keys; or a folder
                with config.json and model.safetensors.
            variant: Which model the file holds, a name of `nexus models`; not needed for a folder.
            device: As in `from_pretrained`.
            dtype: As in `from_pretrained`.
            input_side: As in `from_pretrained`.

        Raises:
            InputError: No variant for a file.
            UnknownModelError: An unknown variant, or one of another class.
            FileNotFoundError: There is no such file.
            CheckpointError: Damaged, unsafe to read, or another model's.
        """
        source = Path(path)
        placement = resolve_device(device), resolve_dtype(dtype)
        if source.is_dir():
            return cls._from_folder(source, variant)._placed(*placement, input_side)
        if variant is None:
            raise InputError(
                f"expected variant= to say which model {str(source)!r} holds, got None",
                hint="one of "
                + ", ".join(n for n, s in MODELS.items() if s.family in cls.families),
            )
        cls._check_family(variant)
        return cls._from_file(source, variant)._placed(*placement, input_side)

    @classmethod
    def _from_file(cls, path: Path, variant: str) -> Self:
        """Load a file that holds a model of the table."""
        state = official_keys(read_checkpoint(path))
        return cls._filled(VARIANTS[variant], variant, model_spec(variant).policy, state, str(path))

    @classmethod
    def _from_folder(cls, folder: Path, variant: str | None) -> Self:
        """Load a folder in Hugging Face's layout, whose config.json gives the sizes."""
        weights = weights_in(folder)
        try:
            config = config_from_hf(json.loads((folder / "config.json").read_text("utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"expected the config.json of a SAM in {str(folder)!r}, got another: {error!r}"
            ) from error
        policy = with_input_side(SAM_POLICY, getattr(config.encoder, "input_side", None))
        if variant is not None and not is_hub_id(variant):
            cls._check_family(variant)
            policy = model_spec(variant).policy
        state = official_keys(read_checkpoint(weights))
        name = variant or folder.resolve().name
        return cls._filled(config, name, policy, state, str(folder))

    @classmethod
    def _filled(
        cls,
        config: SAMConfig,
        variant: str,
        policy: Policy,
        state: Mapping[str, Tensor],
        source: str,
    ) -> Self:
        """Build the model without initialising it and fill it with `state`."""
        with torch.device("meta"):
            model = cls(config, variant, policy)
        load_strict(model, state, what=variant, source=source)
        return model

    def _placed(self, device: torch.device, dtype: torch.dtype, input_side: int | None) -> Self:
        """Move to where and how the caller wants the model."""
        self.policy = with_input_side(self.policy, input_side)
        return self.to(device=device, dtype=dtype)

    @classmethod
    def _check_family(cls, name: str) -> None:
        family = model_spec(name).family
        if family not in cls.families:
            right = CLASS_OF_FAMILY[family]
            raise UnknownModelError(
                f"expected a model of {cls.__name__}, got {name!r}, which is one of {right}",
                hint=f"from nexus.models.cv import {right}; {right}.from_pretrained({name!r})",
            )


def config_from_hf(config: Mapping[str, Any]) -> SAMConfig:
    """Read the sizes from the config.json of a Hugging Face SAM.

    Raises:
        ValueError: Another architecture.
    """
    if config.get("model_type") != "sam":
        raise ValueError(f"model_type is {config.get('model_type')!r}, not 'sam'")
    vision = config.get("vision_config", {})
    prompt = config.get("prompt_encoder_config", {})
    decoder = config.get("mask_decoder_config", {})
    usual = ViTConfig()
    width = vision.get("hidden_size", usual.width)
    return SAMConfig(
        ViTConfig(
            width=width,
            depth=vision.get("num_hidden_layers", usual.depth),
            heads=vision.get("num_attention_heads", usual.heads),
            global_blocks=tuple(vision.get("global_attn_indexes", usual.global_blocks)),
            input_side=vision.get("image_size", usual.input_side),
            patch=vision.get("patch_size", usual.patch),
            window=vision.get("window_size", usual.window),
            out_channels=vision.get("output_channels", usual.out_channels),
        ),
        dim=prompt.get("hidden_size", 256),
        mask_channels=prompt.get("mask_input_channels", 16),
        decoder_heads=decoder.get("num_attention_heads", 8),
        decoder_hidden=decoder.get("mlp_dim", 2048),
        iou_hidden=decoder.get("iou_head_hidden_dim", 256),
    )


# Hugging Face's names and the official ones, in the order they are replaced.
_FROM_HF = (
    ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
    ("vision_encoder.layers.", "image_encoder.blocks."),
    ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
    ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
    ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
    ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
    ("vision_encoder.", "image_encoder."),
    (
        "prompt_encoder.shared_embedding.positional_embedding",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    ("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings."),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    (".layer_norm_final_attn.", ".norm_final_attn."),
    (".layer_norm", ".norm"),
    (".proj_in.", ".layers.0."),
    (".proj_out.", ".layers.2."),
)


def official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a Hugging Face SAM checkpoint; return any other as it is."""
    if not any(name.startswith("vision_encoder.") for name in state):
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("shared_image_embedding."):
            continue  # the same matrix as the prompt encoder's
        # The middle layer of a three-layer MLP is layers.0 there and layers.1 here.
        is_mlp = "hypernetworks_mlps" in name or "iou_prediction_head" in name
        new = name.replace(".layers.0.", ".layers.1.") if is_mlp else name
        for theirs, ours in _FROM_HF:
            new = new.replace(theirs, ours)
        renamed[new] = tensor
    shared = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    if shared not in renamed and "shared_image_embedding.positional_embedding" in state:
        renamed[shared] = state["shared_image_embedding.positional_embedding"]
    return renamed
