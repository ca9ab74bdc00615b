"""SAM, and every model of its architecture: MobileSAM, MedSAM, LiteMedSAM.

Follows "Segment Anything" (arXiv 2304.02643) and the official segment-anything code; MobileSAM is
"Faster Segment Anything" (arXiv 2306.14289), MedSAM "Segment Anything in Medical Images"
(arXiv 2304.12306).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Self

from nexus.core.errors import CheckpointError
from nexus.core.weights.checkpoint import read_checkpoint
from nexus.core.weights.hub import weights_in
from nexus.models.decoding import Candidates, EncodedImages
from nexus.models.frame import FramePrompts, with_input_side
from nexus.models.frontend import Frontend
from nexus.models.policy import SAM_POLICY, Policy
from nexus.models.pretrained import PretrainedModel
from nexus.models.registry import is_hub_id, model_spec
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


class SAM(PretrainedModel):
    """Segment Anything: points, boxes and masks in, masks out.

    Examples:
        sam = SAM.from_pretrained("sam_vit_b")
        embedding = sam.encode_image("image.jpg")
        masks = sam.predict(image_embedding=embedding, prompt=(x, y))
    """

    families: ClassVar[tuple[str, ...]] = ("sam", "medsam")
    variants = VARIANTS
    reads_folders = True

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

    def _prepare_maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return features (B, C, gh, gw) and the position code of their grid, (1, C, gh, gw)."""
        (features,) = maps
        gh, gw = features.shape[-2:]
        dtype = self.prompt_encoder.no_mask_embed.weight.dtype
        return features.to(dtype), self.prompt_encoder.dense_positions((gh, gw))

    def score(
        self, images: EncodedImages, prompts: FramePrompts, multimask_output: bool
    ) -> Candidates:
        """Score the mask candidates of P prompts; see `PromptableModel.score`."""
        features, image_pe = images.maps
        sparse, dense = self.prompt_encoder(*prompts, images.input_side)
        decoded = self.mask_decoder.decode_tokens(features, image_pe, sparse, dense)
        return Candidates.of_tokens(self.mask_decoder, decoded, multimask_output)

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
        state = cls._official(read_checkpoint(weights))
        name = variant or folder.resolve().name
        return cls._filled(config, name, policy, state, str(folder))

    @classmethod
    def _official(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the entries of a Hugging Face SAM checkpoint; return any other as it is."""
        if not any(name.startswith("vision_encoder.") for name in state):
            return state
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
        if "shared_image_embedding.positional_embedding" in state:
            shared = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
            renamed.setdefault(shared, state["shared_image_embedding.positional_embedding"])
        return renamed


def config_from_hf(config: Mapping[str, Any]) -> SAMConfig:
    """Read the sizes from the config.json of a Hugging Face SAM.

    Raises:
        ValueError: Another architecture.
    """
    if config.get("model_type") != "sam":
        raise ValueError(f"model_type is {config.get('model_type')!r}, not 'sam'")
    vision = dict(config.get("vision_config", {}))
    given = {ours: vision[theirs] for theirs, ours in _VIT_SIZES.items() if theirs in vision}
    if "global_blocks" in given:
        given["global_blocks"] = tuple(given["global_blocks"])
    prompt = config.get("prompt_encoder_config", {})
    decoder = config.get("mask_decoder_config", {})
    return SAMConfig(
        ViTConfig(**given),
        dim=prompt.get("hidden_size", 256),
        mask_channels=prompt.get("mask_input_channels", 16),
        decoder_heads=decoder.get("num_attention_heads", 8),
        decoder_hidden=decoder.get("mlp_dim", 2048),
        iou_hidden=decoder.get("iou_head_hidden_dim", 256),
    )


_VIT_SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "global_attn_indexes": "global_blocks",
    "image_size": "input_side",
    "patch_size": "patch",
    "window_size": "window",
    "output_channels": "out_channels",
}
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
