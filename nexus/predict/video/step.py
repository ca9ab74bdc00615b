"""One step of tracking, for a session and for `track`, which keeps nothing but what it is given.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4. A step takes
a frame and what each object looks back at; all objects go through every part of the model in one
call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus.core.errors import EmbeddingError, InputError, PromptError, VideoError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.core.types.frame_masks import FrameMasks
from nexus.core.types.masks import Masks
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.cv.sam2 import NO_OBJECT_LOGIT, SAM2
from nexus.models.frame import masks_to_original, prompts_to_frame
from nexus.models.memory import FrameFeatures, ObjectOutputs, Recall, Remembered, recall
from nexus.ops.components import clean_mask

FIRST_ID = 1
"""Id of the object of a prompt that names none."""

_FILLED_LOGIT = 0.1  # of a filled hole, and negative of a removed speck, as in the original
_RATE = 25.0


@dataclass(frozen=True, eq=False)
class Seed:
    """A prompt on an image that nothing has been remembered of yet."""

    image: ImageLike | ImageEmbedding
    prompt: Prompt


@dataclass(frozen=True, eq=False)
class TrackMemory:
    """What `track` looks back at: a value that each step makes anew and that does not grow.

    Attributes:
        next_index: Number of the frame that comes next.
        conditioning: Each object on the frames it was prompted on, by id and frame.
        others: Each object on the frames tracked last.
        size_hw: Size of the frames.
        fingerprint: Digest of the model it belongs to.
        seed: A prompted image that is to become frame 0.
    """

    next_index: int = 0
    conditioning: Mapping[int, Mapping[int, Remembered]] = field(default_factory=dict)
    others: Mapping[int, Mapping[int, Remembered]] = field(default_factory=dict)
    size_hw: tuple[int, int] = (0, 0)
    fingerprint: str = ""
    seed: Seed | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it to go on from."""
        return not self.conditioning and self.seed is None


def check_prompt(prompt: Prompt, size_hw: tuple[int, int]) -> None:
    """Refuse a prompt that does not fit a frame of a video.

    Raises:
        PromptError: Points or box outside, a bool mask of another size, or one given with points
            or a box.
    """
    prompt.check_within(size_hw)
    if prompt.mask is None or prompt.mask.dtype != np.bool_:
        return
    if prompt.points is not None or prompt.box is not None:
        raise PromptError(
            "expected a bool mask alone, which is taken as it is, got points or a box with it",
            hint="add the mask first, then correct it; or give low_res_logits as a rough mask",
        )
    if prompt.mask.shape != tuple(size_hw):
        raise PromptError(
            f"expected a bool mask of the frame's size {tuple(size_hw)}, got {prompt.mask.shape}",
            hint="masks are (H, W) in pixels of the original frame",
        )


def answer_prompt(
    model: SAM2,
    frame: FrameFeatures,
    prompt: Prompt,
    features: Tensor | None = None,
    previous: Tensor | None = None,
) -> ObjectOutputs:
    """Decode one prompted object, or adopt its mask.

    Args:
        model: The model.
        frame: The frame.
        prompt: In original pixels, checked by `check_prompt`.
        features: (1, C, gh, gw) conditioned on what is remembered; None for features without.
        previous: (4 gh, 4 gw) logits of the object on this frame to start from.

    Raises:
        PromptError: Mask logits of another size.
    """
    if prompt.mask is not None and prompt.mask.dtype == np.bool_:
        return model.adopt_masks(frame, torch.from_numpy(prompt.mask.copy())[None])
    gh, gw = frame.features.shape[-2:]
    prompts = prompts_to_frame([prompt], frame.geometry, (4 * gh, 4 * gw), model.policy)
    mask = prompts.mask_input
    if mask is None and previous is not None:
        mask = previous[None, None]
    prompts = dataclasses.replace(
        prompts,
        point_coords=prompts.point_coords.to(model.device),
        point_labels=prompts.point_labels.to(model.device),
        mask_input=None if mask is None else mask.to(model.device),
    )
    features = model.without_memory(frame) if features is None else features
    return model.decode_objects(frame, features, prompts)


def encode_memories(
    model: SAM2, frame: FrameFeatures, logits: Tensor, scores: Tensor, prompted: Sequence[bool]
) -> Tensor:
    """Encode what K objects are remembered by: (K, T, M).

    Masks of prompted frames enter as the caller saw them, without small holes and specks; those
    of tracked frames as decoded. That is what the original does.
    """
    if any(prompted) and model.config.fill_hole_area:
        rows = [
            cleaned(row, model.config.fill_hole_area) if seen else row
            for row, seen in zip(logits, prompted, strict=True)
        ]
        logits = torch.stack(rows)
    if any(prompted) == all(prompted):
        return model.encode_memory(frame, logits, scores, any(prompted))
    return model.encode_memory(frame, logits, scores, torch.tensor(prompted))


def cleaned(logits: Tensor, area: int) -> Tensor:
    """Fill the holes and remove the specks of (h, w) logits up to `area` pixels.

    Parts are 8-connected; background at the edge counts as a hole, and the largest part of a mask
    always stays. Components are found on the CPU, wherever the logits are.
    """
    if area <= 0:
        return logits
    mask = (logits > 0).cpu().numpy()
    clean, changed = clean_mask(mask, area + 1)
    if not changed:
        return logits
    added = torch.from_numpy(clean & ~mask).to(logits.device)
    removed = torch.from_numpy(mask & ~clean).to(logits.device)
    return logits.masked_fill(added, _FILLED_LOGIT).masked_fill(removed, -_FILLED_LOGIT)


def show(
    model: SAM2,
    frame: FrameFeatures,
    index: int,
    time_s: float,
    objects: Mapping[int, tuple[Tensor, float, float] | None],
) -> FrameMasks:
    """Return objects, given by id as logits, IoU score and object score, in the original frame."""
    gh, gw = frame.features.shape[-2:]
    height, width = frame.geometry.original_size_hw
    low = torch.full((len(objects), 4 * gh, 4 * gw), NO_OBJECT_LOGIT)
    scores = np.array([[0.0, NO_OBJECT_LOGIT]] * len(objects), np.float32).reshape(-1, 2)
    for row, seen in enumerate(objects.values()):
        if seen is not None:
            low[row] = cleaned(seen[0].float().cpu(), model.config.fill_hole_area)
            scores[row] = seen[1:]
    masks: NDArray[np.bool_] = np.zeros((0, height, width), np.bool_)
    if objects:
        masks = masks_to_original(low, frame.geometry, model.policy)
    return FrameMasks(
        index, time_s, tuple(objects), masks, scores[:, 0].copy(), scores[:, 1].copy(), low.numpy()
    )


def track_step(
    model: SAM2,
    image: ImageLike,
    prev_mask: Any = None,
    memory: TrackMemory | None = None,
    *,
    input_side: int | None = None,
    frame_count: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> FrameMasks:
    """Track objects from the frames before into the next one; see `SAM2.track`."""
    memory = _memory_of(prev_mask, memory)
    if memory is not None and memory.seed is not None:
        memory = _sown(model, memory.seed, input_side)
    embedding = model.encode_frames([image], input_side=input_side, max_pixels=max_pixels)[0]
    frame = model.frame_features(embedding)
    if memory is None:
        return _redrawn(model, frame, _prompts_of(prev_mask), embedding.fingerprint)
    _check_memory(memory, embedding)
    span = pointer_span(model, frame_count)
    t, ids = memory.next_index, list(memory.conditioning)
    recalls = [_recall(model, memory, k, t, span) for k in ids]
    outputs = model.decode_objects(frame, model.condition(frame, recalls, span))
    encoded = encode_memories(
        model, frame, outputs.low_res_logits, outputs.object_score_logits, [False] * len(ids)
    )
    others = {}
    for row, k in enumerate(ids):
        found = Remembered(encoded[row], outputs.object_pointer[row])
        others[k] = _recent({**memory.others[k], t: found}, t, span, model.config.max_memories)
    later = dataclasses.replace(memory, next_index=t + 1, others=others)
    return dataclasses.replace(_shown(model, frame, t, ids, outputs), memory=later)


def pointer_span(model: SAM2, frame_count: int | None) -> int:
    """Return how many frames' pointers are looked at, which also scales their ages.

    The original takes the number of frames of clips that are shorter than the configuration says.
    """
    most = model.config.max_pointers
    return most if frame_count is None else max(1, min(frame_count, most))


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


def _check_memory(memory: TrackMemory, embedding: ImageEmbedding) -> None:
    """Refuse memories of another model and frames of another size."""
    if memory.fingerprint != embedding.fingerprint:
        raise EmbeddingError(
            f"expected memory made by this {embedding.model}, got another model's",
            hint="start again with predict on a first frame",
        )
    if memory.size_hw != embedding.original_size_hw:
        height, width = memory.size_hw
        raise VideoError(
            f"expected a frame of {width} x {height} pixels like those before, got "
            f"{embedding.original_size_hw[1]} x {embedding.original_size_hw[0]}",
            hint="bring all frames to one size",
        )


def _sown(model: SAM2, seed: Seed, input_side: int | None) -> TrackMemory:
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
    return _begin(model, frame, {FIRST_ID: seed.prompt}, fingerprint)[0]


def _begin(
    model: SAM2, frame: FrameFeatures, prompts: Mapping[int, Prompt], fingerprint: str
) -> tuple[TrackMemory, dict[int, ObjectOutputs]]:
    """Prompt objects on frame 0."""
    conditioning, answers = {}, {}
    for k, prompt in prompts.items():
        outputs = answers[k] = answer_prompt(model, frame, prompt)
        encoded = encode_memories(
            model, frame, outputs.low_res_logits, outputs.object_score_logits, [True]
        )
        conditioning[k] = {0: Remembered(encoded[0], outputs.object_pointer[0])}
    return TrackMemory(
        1,
        conditioning,
        {k: {} for k in prompts},
        frame.geometry.original_size_hw,
        fingerprint,
    ), answers


def _prompts_of(prev_mask: Any) -> dict[int, Prompt]:
    """Read masks that carry no memory as rough prompts, one for each object."""
    if isinstance(prev_mask, Masks):
        return {FIRST_ID: Prompt(mask=prev_mask.best)}
    if isinstance(prev_mask, FrameMasks):
        return {k: Prompt(mask=prev_mask.mask(k)) for k in prev_mask.object_ids}
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
    return {FIRST_ID + row: Prompt(mask=mask) for row, mask in enumerate(array)}


def _redrawn(
    model: SAM2, frame: FrameFeatures, prompts: Mapping[int, Prompt], fingerprint: str
) -> FrameMasks:
    """Redraw plain masks of the frame before on this one, which becomes frame 0."""
    gh, gw = frame.features.shape[-2:]
    rough = {}
    for k, prompt in prompts.items():
        check_prompt(prompt, frame.geometry.original_size_hw)
        as_logits = prompts_to_frame([prompt], frame.geometry, (4 * gh, 4 * gw), model.policy)
        rough[k] = (
            Prompt(mask=as_logits.mask_input[0]) if as_logits.mask_input is not None else prompt
        )
    memory, answers = _begin(model, frame, rough, fingerprint)
    shown = show(
        model,
        frame,
        0,
        0.0,
        {
            k: (one.low_res_logits[0], float(one.iou_scores[0]), float(one.object_score_logits))
            for k, one in answers.items()
        },
    )
    return dataclasses.replace(shown, memory=memory)


def _recall(model: SAM2, memory: TrackMemory, object_id: int, t: int, span: int) -> Recall:
    return recall(
        t,
        memory.conditioning[object_id],
        memory.others[object_id],
        max_memories=model.config.max_memories,
        max_pointers=span,
        max_conditioning=model.config.max_conditioning,
    )


def _recent(
    seen: Mapping[int, Remembered], t: int, span: int, memories: int
) -> dict[int, Remembered]:
    """Return what frames after t still look back at: pointers further than memory tokens."""
    return {
        u: one if u > t - memories else Remembered(one.pointer.new_zeros(0, 0), one.pointer)
        for u, one in seen.items()
        if u > t - max(span, memories)
    }


def _shown(
    model: SAM2, frame: FrameFeatures, t: int, ids: Sequence[int], outputs: ObjectOutputs
) -> FrameMasks:
    ious = outputs.iou_scores.tolist()
    scores = outputs.object_score_logits[:, 0].tolist()
    rows = zip(outputs.low_res_logits, ious, scores, strict=True)
    return show(model, frame, t, t / _RATE, dict(zip(ids, rows, strict=True)))
