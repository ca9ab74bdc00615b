"""SAM 2 and SAM 2.1: images, and the steps that tracking through a video is made of.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714) and the official sam2
code. On images the model is used like SAM. The parts of a step of tracking (`frame_features`,
`condition`, `decode_objects`, `adopt_masks`, `encode_memory`) remember nothing: what they need of
other frames comes in as an argument. `nexus.models.tracking_step` says what each is given and puts
them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.core.errors import InputError
from nexus.core.types import ImageEmbedding
from nexus.models.decoding import Candidates, EncodedImages
from nexus.models.frame import FramePrompts
from nexus.models.frontend import Frontend
from nexus.models.memory import NO_OBJECT_LOGIT, FrameFeatures, ObjectOutputs, Recall
from nexus.models.policy import SAM2_POLICY, Policy
from nexus.models.tracking import TrackingModel
from nexus.models.tracking_step import TrackingHabits
from nexus.nn.encoder import ImageEncoder
from nexus.nn.fpn import PyramidEncoder, in_turn
from nexus.nn.hiera import Hiera, HieraConfig
from nexus.nn.layers import MLP
from nexus.nn.memory_attention import MemoryAttention, MemoryTokens
from nexus.nn.memory_encoder import MemoryEncoder
from nexus.nn.object_decoder import DecodedObjects, ObjectMaskDecoder
from nexus.nn.perceiver import SpatialPerceiver
from nexus.nn.position import sine_positions, sine_times
from nexus.nn.prompt_encoder import PADDING, PromptEncoder
from nexus.nn.repvit import RepViT, RepViTConfig
from nexus.ops.resize import resize_logits

_MASK_LOGIT = 10.0  # a mask given as a prompt counts as logits of this size
_PREVIOUS_LOGIT_LIMIT = 32.0


@dataclass(frozen=True)
class SAM2Config(TrackingHabits):
    """Sizes of a SAM 2, and its habits, which may be changed on a loaded model.

    Attributes:
        trunk: Sizes of the image trunk.
        dim: Channels of features, prompt embeddings and object pointers.
        memory_dim: Channels of memories.
        memory_layers: Layers of the memory attention.
        hidden: Width of the MLPs of memory attention and mask decoder.
        latents: Tokens a frame's memory is compressed to, as many global as placed ones, a square
            number each; 0 keeps one token for every cell of the feature grid.
        marks_occlusion: A memory of a frame without the object is marked so (2.1).
        times_pointers: Object pointers carry how many frames ago they were (2.1).
    """

    trunk: HieraConfig | RepViTConfig
    dim: int = 256
    memory_dim: int = 64
    memory_layers: int = 4
    hidden: int = 2048
    latents: int = 0
    marks_occlusion: bool = True
    times_pointers: bool = True


_TRUNKS = {
    "hiera_tiny": HieraConfig(),
    "hiera_small": HieraConfig(depths=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "hiera_base_plus": HieraConfig(
        width=112, heads=2, depths=(2, 3, 16, 3), global_blocks=(12, 16, 20), position_side=14
    ),
    "hiera_large": HieraConfig(
        width=144, heads=2, depths=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)
    ),
}

VARIANTS: dict[str, SAM2Config] = {
    f"sam2_{name}": SAM2Config(trunk, marks_occlusion=False, times_pointers=False)
    for name, trunk in _TRUNKS.items()
} | {f"sam2.1_{name}": SAM2Config(trunk) for name, trunk in _TRUNKS.items()}


@dataclass
class SAM2Frontend(Frontend):
    """SAM 2's way into the encoder: the finer maps are brought to the decoder's width at once.

    Attributes:
        decoder: What projects the maps at strides 4 and 8. It is asked each time, so that layers
            put in place of its own, such as LoRA's, are used.
    """

    decoder: ObjectMaskDecoder

    def features(self, encoder: ImageEncoder, batch: Tensor) -> tuple[Tensor, ...]:
        """Return features without the no-memory embedding, then the maps at strides 4 and 8."""
        pyramid = cast(PyramidEncoder, encoder)
        stages, neck = pyramid.stages(batch), pyramid.neck
        fine = in_turn(stages[0], neck.lateral(0), self.decoder.conv_s0)
        middle = in_turn(stages[1], neck.lateral(1), self.decoder.conv_s1)
        return neck(stages), fine, middle

    def fingerprint(self, encoder: nn.Module) -> str:
        """Return a digest of the encoder's and the two projections' weights and of the policy."""
        return super().fingerprint(
            nn.ModuleList([encoder, self.decoder.conv_s0, self.decoder.conv_s1])
        )


class SAM2(TrackingModel):
    """SAM 2: points, boxes and masks in, masks out; on an image, or through a video.

    Examples:
        sam2 = SAM2.from_pretrained("sam2.1_hiera_tiny")
        embedding = sam2.encode_image("image.jpg")
        masks = sam2.predict(image_embedding=embedding, prompt=(x, y))

        session = sam2.video("clip.mp4")
        session.add(frame_index=0, object_id=1, box=(x0, y0, x1, y1))
        for frame in session.propagate():
            frame.index, frame.object_ids, frame.masks
    """

    families = ("sam2",)
    variants = VARIANTS
    config: SAM2Config
    # The original generator's, where SAM's keeps masks from 0.88 on.
    automatic_settings: ClassVar[Mapping[str, Any]] = {"pred_iou_thresh": 0.8}

    def __init__(self, config: SAM2Config, variant: str = "sam2", policy: Policy = SAM2_POLICY):
        dim, memory_dim = config.dim, config.memory_dim
        trunk = (
            Hiera(config.trunk) if isinstance(config.trunk, HieraConfig) else RepViT(config.trunk)
        )
        decoder = ObjectMaskDecoder(dim, hidden=config.hidden)
        super().__init__(
            PyramidEncoder(trunk, config.trunk.stage_widths, dim),
            SAM2Frontend(variant, policy, decoder),
        )
        self.sam_prompt_encoder = PromptEncoder(dim)
        self.sam_mask_decoder = decoder
        self.memory_encoder = MemoryEncoder(dim, memory_dim)
        self.spatial_perceiver = (
            SpatialPerceiver(memory_dim, config.latents, config.latents) if config.latents else None
        )
        side = None if self.spatial_perceiver is None else self.spatial_perceiver.side
        self.memory_attention = MemoryAttention(
            dim, memory_dim, config.hidden, config.memory_layers, side
        )
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.obj_ptr_proj = MLP(dim, dim, dim, 3)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.max_memories, 1, 1, memory_dim))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, dim))
        # In every checkpoint and used by none: the features get `no_mem_embed` alone.
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, dim))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, dim))
        if config.marks_occlusion:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, memory_dim))
        if config.times_pointers:
            self.obj_ptr_tpos_proj = nn.Linear(dim, memory_dim)
        self.config = config
        self.eval()

    def _prepare_maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return features of frames without memory, their position code, and the finer maps."""
        features, fine, middle = (each.to(self.no_mem_embed.dtype) for each in maps)
        gh, gw = features.shape[-2:]
        return (
            features + self.no_mem_embed.view(1, -1, 1, 1),
            self.sam_prompt_encoder.dense_positions((gh, gw)),
            *self.sam_mask_decoder.arrange(fine, middle),
        )

    def score(
        self, images: EncodedImages, prompts: FramePrompts, multimask_output: bool
    ) -> Candidates:
        """Score the mask candidates of P prompts; see `PromptableModel.score`."""
        features, image_pe, coarse, finest = images.maps
        sparse, dense = self.sam_prompt_encoder(*prompts, images.input_side)
        decoder, stability = self.sam_mask_decoder, self.config.stability
        decoded = decoder.decode_tokens(features, image_pe, sparse, dense, (coarse, finest))
        # In training the single mask must learn, also where a candidate would stand in for it.
        if multimask_output or stability is None or self.training:
            return Candidates.of_tokens(decoder, decoded, multimask_output)
        # Which mask is given hangs on how stable the single mask is: it must be drawn.
        return Candidates.of_logits(*decoder.draw_stable(decoded, *stability))

    def frame_features(self, embedding: ImageEmbedding) -> FrameFeatures:
        """Prepare an encoded frame for tracking, on the device of the model."""
        embedding = embedding.to(self.device)
        dtype = self.no_mem_embed.dtype
        maps = embedding.features, *embedding.high_res_features
        features, fine, middle = (each.unsqueeze(0).to(dtype) for each in maps)
        _, C, gh, gw = features.shape
        return FrameFeatures(
            features,
            self.sam_mask_decoder.arrange(fine, middle),
            sine_positions((gh, gw), C, self.device, dtype),
            self.sam_prompt_encoder.dense_positions((gh, gw)),
            embedding.geometry,
        )

    def without_memory(self, frame: FrameFeatures) -> Tensor:
        """Return the features of a frame that nothing is remembered for, (1, C, gh, gw)."""
        return frame.features + self.no_mem_embed.view(1, -1, 1, 1)

    def condition(
        self, frame: FrameFeatures, recalls: Sequence[Recall], max_pointers: int | None = None
    ) -> Tensor:
        """Condition the features of a frame on memories of K objects: (K, C, gh, gw).

        What they look back at may differ in length. Ages of pointers are given as shares of
        `max_pointers` minus 1; None takes the configuration's. The original takes the number of
        frames of shorter clips.

        Raises:
            InputError: No object, an object without any memory, or a memory too old.
        """
        span = self.config.max_pointers if max_pointers is None else max_pointers
        dtype = self.no_mem_embed.dtype
        if self.spatial_perceiver is not None:
            places = self.spatial_perceiver.positions(dtype)  # (T, M)
        else:
            size = (frame.features.shape[-2], frame.features.shape[-1])
            code = sine_positions(size, self.config.memory_dim, self.device, dtype)
            places = code.flatten(1).t()  # (T, M)
        memories = [self._memory_tokens(recall, places, span) for recall in recalls]
        if not memories:
            raise InputError("expected what at least one object looks back at, got none")
        return self.memory_attention(frame.features, frame.positions, memories)

    def decode_objects(
        self,
        frame: FrameFeatures,
        features: Tensor,
        prompts: FramePrompts | None = None,
        habits: TrackingHabits | None = None,
    ) -> ObjectOutputs:
        """Decode K objects on a frame, each with a prompt of its own or all without.

        At most one point, where a box counts as two, is ambiguous, and the best of three
        candidates is taken; so it is while tracking, without any.

        Features are (1 or K, C, gh, gw), from `condition` or `without_memory`. Prompts are in the
        model frame (`nexus.models.frame.prompts_to_frame`, under the policy of the model), alike in
        length; a mask in them is that of an earlier answer. Habits None are the configuration's.
        """
        # Counted before prompts go to a device, where asking would wait for it.
        multimask_output = prompts is None or int((prompts.point_labels[:1] != PADDING).sum()) <= 1
        prompts = (prompts or _no_prompts(len(features), features.device)).to(features.device)
        if prompts.mask_input is not None:
            limited = prompts.mask_input.clamp(-_PREVIOUS_LOGIT_LIMIT, _PREVIOUS_LOGIT_LIMIT)
            prompts = prompts._replace(mask_input=limited)
        stability = (habits or self.config).stability
        decoded = self._decoded(frame, features, prompts, multimask_output, stability)
        chosen = decoded.iou_scores.argmax(-1)  # (K,)
        each = torch.arange(len(chosen), device=chosen.device)
        present = decoded.object_score_logits > 0  # (K, 1)
        logits = decoded.low_res_logits[each, chosen].float()
        pointer = self.obj_ptr_proj(decoded.tokens[each, chosen])
        return ObjectOutputs(
            torch.where(present[..., None], logits, NO_OBJECT_LOGIT),
            decoded.iou_scores[each, chosen].float(),
            torch.where(present, pointer, self.no_obj_ptr),
            decoded.object_score_logits.float(),
            decoded,
        )

    def adopt_masks(self, frame: FrameFeatures, masks: Tensor) -> ObjectOutputs:
        """Take masks a caller gave as they are, and find the object pointers that go with them.

        Masks are (K, H, W) bool, of the original frame.
        """
        side = frame.geometry.input_side
        full = masks.to(self.device).unsqueeze(1).float()
        if full.shape[-2:] != (side, side):
            full = F.interpolate(full, size=(side, side), mode="bilinear", antialias=True)
            full = (full >= 0.5).float()
        logits = (2 * full - 1) * _MASK_LOGIT
        low = F.interpolate(logits, scale_factor=0.25, mode="bilinear", antialias=True)
        K = len(full)
        mask_input = self.mask_downsample(full.to(self.no_mem_embed.dtype))
        prompts = _no_prompts(K, self.device)._replace(mask_input=mask_input)
        # The pointer comes from features that carry neither memory nor its absence.
        decoded = self._decoded(frame, frame.features, prompts, False, None)
        pointer = self.obj_ptr_proj(decoded.tokens[:, 0])
        drawn = full.flatten(1).any(1, keepdim=True)  # (K, 1)
        present = drawn & (decoded.object_score_logits > 0)
        return ObjectOutputs(
            low.squeeze(1),
            low.new_ones(K),
            torch.where(present, pointer, self.no_obj_ptr),
            (2 * drawn.float() - 1) * _MASK_LOGIT,
            None,
        )

    def encode_memory(
        self,
        frame: FrameFeatures,
        low_res_logits: Tensor,
        object_score_logits: Tensor,
        is_mask_from_prompt: bool | Tensor,
        habits: TrackingHabits | None = None,
    ) -> Tensor:
        """Encode what a frame shows of K objects for later frames to look back at.

        Logits, (K, 4 gh, 4 gw) and (K, 1), are as in `ObjectOutputs`. `is_mask_from_prompt` says
        whether a caller pointed at the object on this frame; one answer, or (K,) bool. Habits None
        are the configuration's.

        Returns:
            (K, T, M) memory tokens; their places are the same for all frames of one size.
        """
        side, dtype = frame.geometry.input_side, self.no_mem_embed.dtype
        full = resize_logits(low_res_logits.to(self.device).float(), (side, side)).unsqueeze(1)
        prompted = torch.as_tensor(is_mask_from_prompt).view(-1, 1, 1, 1)
        if (habits or self.config).binarize_clicks and bool(prompted.any()):
            full = torch.where(prompted.to(self.device), (full > 0).float(), full.sigmoid())
        else:
            full = full.sigmoid()
        full = full.mul(2 * _MASK_LOGIT).sub_(_MASK_LOGIT)
        memory = self.memory_encoder(frame.features, full.to(dtype))  # (K, M, gh, gw)
        if self.config.marks_occlusion:
            absent = (object_score_logits.to(self.device) <= 0).to(dtype)[..., None, None]
            memory = memory + absent * self.no_obj_embed_spatial[..., None, None]
        if self.spatial_perceiver is not None:
            return self.spatial_perceiver(memory)
        return memory.flatten(2).transpose(1, 2).contiguous()

    def _decoded(
        self,
        frame: FrameFeatures,
        features: Tensor,
        prompts: FramePrompts,
        multimask_output: bool,
        stability: tuple[float, float] | None,
    ) -> DecodedObjects:
        """Decode prompts on the device of the features: all candidates, or one mask."""
        embedded = self.sam_prompt_encoder(*prompts, frame.geometry.input_side)
        return self.sam_mask_decoder.decode_objects(
            features, frame.image_pe, embedded, frame.fine_pixels, multimask_output, stability
        )

    def _memory_tokens(self, recall: Recall, places: Tensor, span: int) -> MemoryTokens:
        """Put together what one object looks back at."""
        M, dtype = self.config.memory_dim, self.no_mem_embed.dtype
        if not recall.memories or max(recall.ages) >= self.config.max_memories:
            raise InputError(
                "expected memories of 1 or more frames, each of age 0 to "
                f"{self.config.max_memories - 1}, got ages {list(recall.ages)}",
                hint="choose them with nexus.models.memory.recall",
            )
        times = self.maskmem_tpos_enc.view(-1, M)
        tokens = [memory.to(self.device, dtype) for memory in recall.memories]
        # Age 0 takes the last row, which is that of conditioning frames.
        positions = [places + times[age - 1] for age in recall.ages]
        if recall.pointers:
            pointers = torch.stack(recall.pointers).to(self.device, dtype)
            pieces = pointers.shape[1] // M  # a pointer is as many tokens as fit it
            tokens.append(pointers.view(-1, M))
            code = self.no_mem_embed.new_zeros(len(pointers), M)
            if self.config.times_pointers:
                ages = torch.tensor(recall.pointer_ages, dtype=torch.float32, device=self.device)
                code = sine_times(ages / max(1, span - 1), self.config.dim)
                code = self.obj_ptr_tpos_proj(code.to(dtype))  # (n, M)
            positions.append(code.repeat_interleave(pieces, dim=0))
        pointer_tokens = len(tokens[-1]) if recall.pointers else 0
        return MemoryTokens(
            torch.cat(tokens), torch.cat(positions), len(recall.memories), pointer_tokens
        )


def _no_prompts(count: int, device: torch.device) -> FramePrompts:
    """Return what stands for no prompt while tracking: two padding points."""
    labels = torch.full((count, 2), PADDING, device=device)
    return FramePrompts(torch.zeros(count, 2, 2, device=device), labels, None)
