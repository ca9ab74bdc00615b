"""One step of tracking: condition a frame on what is remembered, answer, remember, show.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4. Sessions,
streams, `track` and training put the same functions together. They keep nothing, and neither open
nor forbid gradients; all objects go through every part of a model in one call. Habits that are
None are those of the model's configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nexus.core.errors import PromptError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.core.types.masks import FrameMasks
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.frame import masks_to_original, prompts_to_frame
from nexus.models.memory import NO_OBJECT_LOGIT, FrameFeatures, ObjectOutputs, Past, Recall, recall
from nexus.models.policy import Policy
from nexus.models.pretrained import PretrainedModel
from nexus.ops.components import clean_mask

_FILLED_LOGIT = 0.1  # of a filled hole, and negative of a removed speck, as in the original


@dataclass(frozen=True, kw_only=True)
class TrackingHabits:
    """How a model tracks, beside its weights; may be changed on a loaded model, or for one step.

    Attributes:
        max_memories: Frames of memory; all conditioning frames together count as one.
        max_pointers: Object pointers; those of conditioning frames come on top.
        max_conditioning: Conditioning frames looked at, the nearest ones; None for all.
        stability: Margin in logits and least share, see `ObjectMaskDecoder.decode_objects`; None
            never lets a candidate stand in for an unstable single mask.
        binarize_clicks: Masks of prompted frames enter memory as 0 or 1, as the caller saw them.
        fill_hole_area: Holes and specks of tracked masks up to this many low-resolution pixels
            are filled and removed; 0 leaves them.
    """

    max_memories: int = 7
    max_pointers: int = 16
    max_conditioning: int | None = None
    stability: tuple[float, float] | None = (0.05, 0.98)
    binarize_clicks: bool = True
    fill_hole_area: int = 8

    def pointer_span(self, frame_count: int | None) -> int:
        """Return how many frames' pointers are looked at, which also scales their ages.

        The original takes the number of frames of clips that are shorter than `max_pointers`.
        """
        most = self.max_pointers
        return most if frame_count is None else max(1, min(frame_count, most))


class MemoryModel(PretrainedModel):
    """A promptable model with the parts that a step is made of; `SAM2` says what each does.

    The parts are batched over K objects and remember nothing. A subclass may do any of them in a
    way of its own, which sessions and training heed.

    Attributes:
        config: Sizes, and the habits of tracking.
    """

    config: TrackingHabits
    frame_features: Callable[[ImageEmbedding], FrameFeatures]
    without_memory: Callable[[FrameFeatures], Tensor]
    condition: Callable[[FrameFeatures, Sequence[Recall], int], Tensor]
    decode_objects: Callable[..., ObjectOutputs]
    adopt_masks: Callable[[FrameFeatures, Tensor], ObjectOutputs]
    encode_memory: Callable[..., Tensor]

    @property
    def video_policy(self) -> Policy:
        """How video frames enter: as images do, but resized by Pillow's bicubic filter."""
        return dataclasses.replace(self.policy, interpolation="bicubic", resize_as="source")

    def encode_frames(
        self,
        frames: Sequence[ImageLike],
        *,
        input_side: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
    ) -> list[ImageEmbedding]:
        """Encode video frames in one batch, under `video_policy`; else like `encode_images`."""
        if not frames:
            return []
        frontend = dataclasses.replace(self.frontend, policy=self.video_policy)
        with torch.no_grad():
            return frontend.embed(self.image_encoder, frames, input_side, max_pixels)


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


def condition(
    model: MemoryModel,
    frame: FrameFeatures,
    frame_index: int,
    pasts: Sequence[Past],
    span: int,
    reverse: bool = False,
    habits: TrackingHabits | None = None,
) -> Tensor:
    """Condition the features of a frame on what is remembered of K objects: (K, C, gh, gw).

    A past may hold more than is looked back at; `span` is that of `TrackingHabits.pointer_span`.
    With `reverse`, tracking goes back in time.
    """
    habits = habits or model.config
    recalls = [
        recall(
            frame_index,
            *past,
            reverse=reverse,
            max_memories=habits.max_memories,
            max_pointers=span,
            max_conditioning=habits.max_conditioning,
        )
        for past in pasts
    ]
    return model.condition(frame, recalls, span)


def answer(
    model: MemoryModel,
    frame: FrameFeatures,
    features: Tensor,
    prompts: Sequence[Prompt],
    previous: Tensor | None = None,
    habits: TrackingHabits | None = None,
) -> ObjectOutputs:
    """Answer one prompt for each of K objects; a bool mask is adopted, all else decoded.

    Prompts are in original pixels, checked by `check_prompt`, of equal `token_count`, and all or
    none have a bool mask, or mask logits. Those without a mask start from `previous`, (K, 4 gh,
    4 gw) logits of the objects on this frame as decoded, if it is given. Features are (1 or K, C,
    gh, gw), from `condition` or `without_memory`.

    Raises:
        PromptError: Mask logits of another size.
    """
    given = [prompt.mask for prompt in prompts if prompt.mask is not None]
    if given and given[0].dtype == np.bool_:
        return model.adopt_masks(frame, torch.from_numpy(np.stack(given)))
    in_frame = prompts_to_frame(list(prompts), frame.geometry, frame.mask_size_hw, model.policy)
    if not given and previous is not None:
        area = (habits or model.config).fill_hole_area
        rough = torch.stack([cleaned(logits, area) for logits in previous])
        in_frame = in_frame._replace(mask_input=rough.unsqueeze(1))
    return model.decode_objects(frame, features, in_frame, habits)


def remember(
    model: MemoryModel,
    frame: FrameFeatures,
    low_res_logits: Tensor,
    object_score_logits: Tensor,
    prompted: Sequence[bool],
    habits: TrackingHabits | None = None,
) -> Tensor:
    """Encode what K objects on a frame are remembered by, from logits as decoded: (K, T, M).

    Masks of prompted frames enter as the caller saw them, without small holes and specks; those
    of tracked frames as decoded. That is what the original does.
    """
    area = (habits or model.config).fill_hole_area
    if any(prompted) and area:
        rows = zip(low_res_logits, prompted, strict=True)
        low_res_logits = torch.stack([cleaned(row, area) if seen else row for row, seen in rows])
    which = prompted[0] if len(set(prompted)) == 1 else torch.tensor(prompted)
    return model.encode_memory(frame, low_res_logits, object_score_logits, which, habits)


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
    model: MemoryModel,
    frame: FrameFeatures,
    frame_index: int,
    time_s: float,
    objects: Mapping[int, tuple[Tensor, float, float] | None],
) -> FrameMasks:
    """Return objects, given by id as rows of `ObjectOutputs` or None, in the original frame."""
    low = torch.full((len(objects), *frame.mask_size_hw), NO_OBJECT_LOGIT)
    scores = np.array([[0.0, NO_OBJECT_LOGIT]] * len(objects), np.float32).reshape(-1, 2)
    for place, row in enumerate(objects.values()):
        if row is not None:
            low[place] = cleaned(row[0].float().cpu(), model.config.fill_hole_area)
            scores[place] = row[1:]
    masks = masks_to_original(low, frame.geometry, model.policy)
    iou_scores, object_scores = scores.T.copy()
    return FrameMasks(
        frame_index, time_s, tuple(objects), masks, iou_scores, object_scores, low.numpy()
    )
