"""Track one frame after the other, with nothing kept but what the last result carries.

The steps are those of `nexus.models.tracking_step`, as in a session; what is remembered is a value
in each result, a `TrackMemory`, that holds as many frames as are looked back at and no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nexus.core.errors import EmbeddingError, InputError, PromptError, VideoError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.core.types.masks import FrameMasks, Masks
from nexus.data.images.loading import ImageLike
from nexus.models.frame import mask_to_frame
from nexus.models.memory import FrameFeatures, ObjectOutputs, Past, Remembered, Seed, TrackMemory
from nexus.models.tracking_step import MemoryModel, answer, check_prompt, condition, remember, show

FIRST_ID = 1
"""Id of the object of a prompt that names none."""

_RATE = 25.0


@torch.no_grad()
def track(
    model: MemoryModel,
    image: ImageLike,
    prev_mask: Any = None,
    memory: TrackMemory | None = None,
    *,
    input_side: int | None = None,
    frame_count: int | None = None,
) -> FrameMasks:
    """Track objects from the frames before into the next one; see `SAM2.track`."""
    memory = _memory_of(prev_mask, memory)
    if memory is not None and memory.seed is not None:
        memory = _sown(model, memory.seed, input_side)
    embedding = model.encode_frames([image], input_side=input_side)[0]
    frame = model.frame_features(embedding)
    if memory is None:
        rough = {}
        for k, mask in _plain_masks(prev_mask).items():  # of the frame before, redrawn on this one
            check_prompt(Prompt(mask=mask), frame.geometry.original_size_hw)
            # As logits, or the mask would be adopted as that of this frame.
            rough[k] = Prompt(mask=mask_to_frame(mask, frame.geometry, frame.mask_size_hw)[0])
        memory, begun = _begun(model, frame, rough, embedding.fingerprint)
        shown = show(model, frame, 0, 0.0, {k: each.rows()[0] for k, each in begun.items()})
        return dataclasses.replace(shown, memory=memory)
    if memory.fingerprint != embedding.fingerprint:
        raise EmbeddingError(
            f"expected memory made by this {embedding.model}, got another model's",
            hint="start again with predict on a first frame",
        )
    if memory.size_hw != embedding.original_size_hw:
        (height, width), (got_height, got_width) = memory.size_hw, embedding.original_size_hw
        raise VideoError(
            f"expected a frame of {width} x {height} pixels like those before, got "
            f"{got_width} x {got_height}",
            hint="bring all frames to one size",
        )
    span, t = model.config.pointer_span(frame_count), memory.next_index
    features = condition(model, frame, t, list(memory.objects.values()), span)
    outputs = model.decode_objects(frame, features)
    found = _remembered(model, frame, outputs, prompted=False)
    memories = model.config.max_memories

    def recent(seen: Mapping[int, Remembered]) -> dict[int, Remembered]:
        """Return what later frames still look back at: pointers further than memory tokens."""
        return {
            u: each if u > t - memories else Remembered(each.pointer.new_zeros(0, 0), each.pointer)
            for u, each in seen.items()
            if u > t - max(span, memories)
        }

    objects = {
        k: Past(past.conditioning, recent({**past.others, t: seen}))
        for (k, past), seen in zip(memory.objects.items(), found, strict=True)
    }
    shown = show(model, frame, t, t / _RATE, dict(zip(objects, outputs.rows(), strict=True)))
    later = dataclasses.replace(memory, next_index=t + 1, objects=objects)
    return dataclasses.replace(shown, memory=later)


def _memory_of(prev_mask: Any, memory: TrackMemory | None) -> TrackMemory | None:
    """Return what to go on from; None where there is only a plain mask."""
    if memory is not None and not isinstance(memory, TrackMemory):
        raise InputError(
            f"expected memory of an earlier result, got {type(memory).__name__}",
            hint="pass memory=result.memory, or memory=model.memory for what prev_mask carries",
        )
    if memory is not None and not memory.is_empty:
        return memory
    carried = getattr(prev_mask, "memory", None)
    if isinstance(carried, TrackMemory) and not carried.is_empty:
        return carried
    if prev_mask is None:
        raise InputError(
            "expected prev_mask or a memory that is not empty, got neither",
            hint="start with prev_mask=model.predict(image=first_frame, prompt=...)",
        )
    return None


def _sown(model: MemoryModel, seed: Seed, input_side: int | None) -> TrackMemory:
    """Make the prompted image frame 0."""
    if isinstance(seed.image, ImageEmbedding):
        model.check_embedding(seed.image)
        embedding = seed.image
    else:
        embedding = model.encode_frames([seed.image], input_side=input_side, max_pixels=None)[0]
    check_prompt(seed.prompt, embedding.original_size_hw)
    frame = model.frame_features(embedding)
    # Encoded as an image or as a frame: what follows is checked against frames.
    frontend = dataclasses.replace(model.frontend, policy=model.video_policy)
    fingerprint = frontend.fingerprint(model.image_encoder)
    return _begun(model, frame, {FIRST_ID: seed.prompt}, fingerprint)[0]


def _begun(
    model: MemoryModel, frame: FrameFeatures, prompts: Mapping[int, Prompt], fingerprint: str
) -> tuple[TrackMemory, dict[int, ObjectOutputs]]:
    """Prompt objects on frame 0; return what is remembered of them, and what was answered."""
    features = model.without_memory(frame)
    outputs = {k: answer(model, frame, features, [prompt]) for k, prompt in prompts.items()}
    objects = {
        k: Past({0: _remembered(model, frame, each, prompted=True)[0]}, {})
        for k, each in outputs.items()
    }
    return TrackMemory(1, objects, frame.geometry.original_size_hw, fingerprint), outputs


def _plain_masks(prev_mask: Any) -> dict[int, NDArray[np.bool_]]:
    """Read masks that carry no memory, one (H, W) for each object."""
    if isinstance(prev_mask, Masks):
        return {FIRST_ID: prev_mask.best}
    if isinstance(prev_mask, FrameMasks):
        return dict(zip(prev_mask.object_ids, prev_mask.masks, strict=True))
    array = prev_mask.detach().cpu().numpy() if hasattr(prev_mask, "detach") else prev_mask
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.dtype != np.bool_ or not len(array):
        raise PromptError(
            "expected prev_mask to be an earlier result or a bool mask (H, W) or (K, H, W), "
            f"got {array.dtype} of shape {array.shape}",
            hint="for labels pass labels == n; for logits pass logits > 0",
        )
    return dict(enumerate(array, FIRST_ID))


def _remembered(
    model: MemoryModel, frame: FrameFeatures, outputs: ObjectOutputs, prompted: bool
) -> list[Remembered]:
    """Encode what each object on a frame is remembered by."""
    logits, scores = outputs.low_res_logits, outputs.object_score_logits
    memories = remember(model, frame, logits, scores, [prompted] * len(logits))
    return [Remembered(*row) for row in zip(memories, outputs.object_pointer, strict=True)]
