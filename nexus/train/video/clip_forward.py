"""SAM 2 over a short clip with its memory, with gradients from every frame to all before it.

Follows the training of "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714, appendix
D.2): prompted frames are answered first, then the others are tracked in order, each looking back at
what is remembered, and all objects go through every part of the model together. The steps are
those of `nexus.models.cv.sam2`, so that the numbers are a session's; habits of the model's
configuration (`stability`, `binarize_clicks`, `fill_hole_area`) are heeded as a session heeds them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nexus.core.errors import InputError, VideoError
from nexus.core.types import Geometry, ImageEmbedding, Prompt, PromptLike
from nexus.data.images.loading import ImageLike, load_image
from nexus.models.cv.sam2 import SAM2
from nexus.models.frame import (
    FramePrompts,
    image_to_frame,
    masks_to_original,
    prompts_to_frame,
    token_count,
)
from nexus.models.memory import FrameFeatures, ObjectOutputs, Recall, Remembered, recall
from nexus.nn.object_decoder import DecodedObjects
from nexus.nn.prompt_encoder import PADDING
from nexus.predict.video.step import check_prompt, cleaned, pointer_span

Corrector: TypeAlias = "Callable[[int, Mapping[int, NDArray[np.bool_]]], Mapping[int, Prompt]]"
"""Given a frame index and the masks on it by object id, in original pixels, say how each object is
prompted next on that frame, with all its earlier points; an empty answer ends the corrections."""

_Result = TypeVar("_Result")

_PREVIOUS_LOGIT_LIMIT = 32.0

# The models' steps, without the `no_grad` that sessions want around them.
_frame_features = inspect.unwrap(SAM2.frame_features)
_condition = inspect.unwrap(SAM2.condition)
_adopt_masks = inspect.unwrap(SAM2.adopt_masks)
_encode_memory = inspect.unwrap(SAM2.encode_memory)


@dataclass(frozen=True, eq=False)
class Answer:
    """What the decoder once said of n objects on a frame; what a loss looks at.

    Attributes:
        object_ids: Which objects.
        candidate_logits: (n, M, h, w) float32, also where the object is thought not to be there.
        candidate_scores: (n, M) predicted IoU.
        object_score_logits: (n,) above 0 where the object is thought to be in the frame.
    """

    object_ids: tuple[int, ...]
    candidate_logits: Tensor
    candidate_scores: Tensor
    object_score_logits: Tensor


@dataclass(frozen=True, eq=False)
class ClipLogits:
    """What a clip of T frames shows of K objects.

    Attributes:
        object_ids: The K ids, in the order they were first prompted.
        low_res_logits: (T, K, h, w) float32, the last answer on each frame as a session gives it.
        iou_scores: (T, K) predicted IoU.
        object_score_logits: (T, K) above 0 where the object is in the frame.
        answers: For each frame, every answer of the decoder: one for each kind of prompt, one for
            tracking and one for each correction. A mask that was given is none.
        geometry: How the original frames lie in the model frame.
    """

    object_ids: tuple[int, ...]
    low_res_logits: Tensor
    iou_scores: Tensor
    object_score_logits: Tensor
    answers: tuple[tuple[Answer, ...], ...]
    geometry: Geometry


def clip_logits(
    model: SAM2,
    frames: Tensor | Sequence[ImageLike],
    prompts_at: Mapping[int, Mapping[int, PromptLike]],
    *,
    correct: Corrector | None = None,
    gradient_frames: int | None = None,
    checkpointing: bool = False,
) -> ClipLogits:
    """Track objects through a clip, with gradients.

    An image encoder whose parameters are frozen is run without keeping anything for gradients.

    Args:
        model: The model.
        frames: (T, 3, H, W) or a list of what `SAM2.encode_frames` takes; all of one size.
        prompts_at: By frame index in the clip, prompts by object id, in original pixels. Every
            other frame looks at these frames, also at those ahead of it, as in a session that is
            prompted before it propagates.
        correct: Asked on every frame after an answer, until it is content.
        gradient_frames: No gradient runs into memories more than this many frames old; 0 for into
            none, None for into all.
        checkpointing: Compute again in the backward pass what the steps keep for it, which takes
            a third longer and a fraction of the memory.

    Raises:
        InputError: No frames, no prompts, a frame index outside the clip, or `gradient_frames`
            below 0.
        VideoError: Frames of different sizes.
        PromptError: A prompt that does not fit the frames.
    """
    if gradient_frames is not None and gradient_frames < 0:
        raise InputError(f"expected gradient_frames of 0 or more, got {gradient_frames}")
    if len(frames) == 0:
        raise InputError("expected a clip of at least one frame, got none")
    prompts = _checked_prompts(prompts_at, len(frames))
    run = _ClipRun(model, checkpointing, gradient_frames, correct)
    run.encode(list(frames))
    run.answer(prompts)
    return run.result()


class _Row(NamedTuple):
    """One object's part of `ObjectOutputs`, and whether a caller pointed at it there."""

    low_res_logits: Tensor
    iou_score: Tensor
    object_score_logits: Tensor
    pointer: Tensor
    prompted: bool


class _ClipRun:
    """One pass over a clip: what is remembered of each object so far, and what was answered."""

    def __init__(
        self,
        model: SAM2,
        checkpointing: bool,
        gradient_frames: int | None,
        correct: Corrector | None,
    ) -> None:
        self.model = model
        self.checkpointing = checkpointing
        self.gradient_frames = gradient_frames
        self.correct = correct
        self.frames: list[FrameFeatures] = []
        self.conditioning: dict[int, dict[int, Remembered]] = {}
        self.others: dict[int, dict[int, Remembered]] = {}
        self.rows: list[dict[int, _Row]] = []
        self.answers: list[list[Answer]] = []

    def encode(self, frames: Sequence[ImageLike]) -> None:
        """Encode the frames one by one."""
        for index, image in enumerate(frames):
            frame = _encoded(self.model, load_image(image), self._run)
            if self.frames and frame.geometry != self.frames[0].geometry:
                height, width = self.frames[0].geometry.original_size_hw
                raise VideoError(
                    f"expected frames of {width} x {height} pixels like the first, got "
                    f"{frame.geometry.original_size_hw[1]} x {frame.geometry.original_size_hw[0]} "
                    f"at frame {index}",
                    hint="bring all frames to one size",
                )
            self.frames.append(frame)
            self.rows.append({})
            self.answers.append([])

    def answer(self, prompts_at: Mapping[int, Mapping[int, Prompt]]) -> None:
        """Answer the prompts, then track every object through the other frames."""
        for prompts in prompts_at.values():
            for k, prompt in prompts.items():
                check_prompt(prompt, self.frames[0].geometry.original_size_hw)
                self.conditioning.setdefault(k, {})
                self.others.setdefault(k, {})
        for t in sorted(prompts_at):
            shared = self.model.without_memory(self.frames[t])
            features = dict.fromkeys(prompts_at[t], shared)
            self._decode(t, features, prompts_at[t])
            self._finish(t, features, self.conditioning)
        for t in range(len(self.frames)):
            waiting = [k for k in self.conditioning if t not in self.conditioning[k]]
            if waiting:
                looked_back = self._look_back(t, waiting)
                features = {k: looked_back[row : row + 1] for row, k in enumerate(waiting)}
                self._take(t, waiting, self._decoded(t, waiting, looked_back, None), False)
                self._finish(t, features, self.others)

    def result(self) -> ClipLogits:
        """Put the last answers on all frames together."""
        ids = tuple(self.conditioning)
        seen = [[rows[k] for k in ids] for rows in self.rows]
        return ClipLogits(
            ids,
            torch.stack([torch.stack([row.low_res_logits for row in rows]) for rows in seen]),
            torch.stack([torch.stack([row.iou_score for row in rows]) for rows in seen]),
            torch.stack([torch.cat([row.object_score_logits for row in rows]) for rows in seen]),
            tuple(tuple(answers) for answers in self.answers),
            self.frames[0].geometry,
        )

    def _look_back(self, t: int, ids: Sequence[int]) -> Tensor:
        """Condition the features of a frame on what is remembered of objects: (n, C, gh, gw)."""
        config, span = self.model.config, pointer_span(self.model, len(self.frames))
        recalls: list[Recall] = [
            recall(
                t,
                self._within_reach(t, self.conditioning[k]),
                self._within_reach(t, self.others[k]),
                max_memories=config.max_memories,
                max_pointers=span,
                max_conditioning=config.max_conditioning,
            )
            for k in ids
        ]
        features: Tensor = self._run(_condition, self.model, self.frames[t], recalls, span)
        return features

    def _within_reach(self, t: int, seen: Mapping[int, Remembered]) -> dict[int, Remembered]:
        """Cut off the gradients of memories that are too old for them."""
        most = self.gradient_frames
        return {
            u: one
            if most is None or abs(t - u) <= most
            else Remembered(one.memory.detach(), one.pointer.detach())
            for u, one in seen.items()
        }

    def _decode(
        self, t: int, features: Mapping[int, Tensor], prompts: Mapping[int, Prompt]
    ) -> None:
        """Answer prompts on a frame; those alike together, bool masks alone are adopted."""
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for k, prompt in prompts.items():
            given = prompt.mask is not None and prompt.mask.dtype == np.bool_
            rough = prompt.mask is not None or k in self.rows[t]
            groups.setdefault((token_count(prompt, self.model.policy), rough, given), []).append(k)
        for (_, _, given), ids in groups.items():
            if given:
                masks = torch.from_numpy(np.stack([cast(Any, prompts[k].mask) for k in ids]))
                outputs = _adopt_masks(self.model, self.frames[t], masks)
            else:
                each = torch.cat([features[k] for k in ids])
                framed = self._framed(t, {k: prompts[k] for k in ids})
                outputs = self._decoded(t, ids, each, framed)
            self._take(t, ids, outputs, True)

    def _framed(self, t: int, prompts: Mapping[int, Prompt]) -> FramePrompts:
        """Bring prompts to the model frame, with the masks that are there to start from."""
        frame, device, config = self.frames[t], self.model.device, self.model.config
        gh, gw = frame.features.shape[-2:]
        framed = prompts_to_frame(
            list(prompts.values()), frame.geometry, (4 * gh, 4 * gw), self.model.policy
        )
        mask = framed.mask_input
        if mask is None and all(k in self.rows[t] for k in prompts):
            # An earlier answer is an input like any other: no gradient runs through it.
            before = [self.rows[t][k].low_res_logits.detach() for k in prompts]
            mask = torch.stack([cleaned(one, config.fill_hole_area) for one in before])[:, None]
        return dataclasses.replace(
            framed,
            point_coords=framed.point_coords.to(device),
            point_labels=framed.point_labels.to(device),
            mask_input=None
            if mask is None
            else mask.to(device).clamp(-_PREVIOUS_LOGIT_LIMIT, _PREVIOUS_LOGIT_LIMIT),
        )

    def _decoded(
        self, t: int, ids: Sequence[int], features: Tensor, prompts: FramePrompts | None
    ) -> ObjectOutputs:
        """Decode, and keep all candidates for the loss."""
        if prompts is None:
            device = self.model.device
            prompts = FramePrompts(
                torch.zeros(len(ids), 2, 2, device=device),
                torch.full((len(ids), 2), PADDING, device=device),
                None,
            )
        several = int((prompts.point_labels[:1] != PADDING).sum()) <= 1
        decoded: DecodedObjects = self._run(
            self.model.decode_prompts,
            self.frames[t],
            features,
            prompts,
            prompts.mask_input,
            several,
        )
        self.answers[t].append(
            Answer(
                tuple(ids),
                decoded.low_res_logits.float(),
                decoded.iou_scores.float(),
                decoded.object_score_logits[:, 0].float(),
            )
        )
        return self.model.chosen(decoded)

    def _take(self, t: int, ids: Sequence[int], outputs: ObjectOutputs, prompted: bool) -> None:
        for row, k in enumerate(ids):
            self.rows[t][k] = _Row(
                outputs.low_res_logits[row],
                outputs.iou_scores[row],
                outputs.object_score_logits[row],
                outputs.object_pointer[row],
                prompted,
            )

    def _finish(
        self, t: int, features: Mapping[int, Tensor], kind: dict[int, dict[int, Remembered]]
    ) -> None:
        """Let objects of a frame be corrected, then remember them."""
        ids = list(features)
        while self.correct is not None:
            frame = self.frames[t]
            low = torch.stack([self.rows[t][k].low_res_logits.detach() for k in ids])
            masks = masks_to_original(low, frame.geometry, self.model.policy)
            wanted = self.correct(t, dict(zip(ids, masks, strict=True)))
            if not wanted:
                break
            for prompt in wanted.values():
                check_prompt(prompt, frame.geometry.original_size_hw)
            self._decode(t, features, wanted)
        rows = [self.rows[t][k] for k in ids]
        memories: Tensor = self._run(_memories, self.model, self.frames[t], rows)
        for k, row, memory in zip(ids, rows, memories, strict=True):
            kind[k][t] = Remembered(memory, row.pointer)

    def _run(self, step: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run a step, keeping what it needs for the backward pass or only what goes in."""
        if not self.checkpointing:
            return step(*arguments)
        result: _Result = checkpoint(step, *arguments, use_reentrant=False)
        return result


def _encoded(
    model: SAM2, image: NDArray[np.generic], run: Callable[..., tuple[Tensor, ...]]
) -> FrameFeatures:
    """Encode one frame under the video policy."""
    tensor, geometry = image_to_frame(image, model.video_policy)
    weight = model.no_mem_embed
    batch = tensor[None].to(weight.device, weight.dtype)
    features, *finer = run(model.frontend.features, model.image_encoder, batch)
    embedding = ImageEmbedding(
        features[0], geometry, model.variant, "", tuple(one[0] for one in finer)
    )
    frame: FrameFeatures = _frame_features(model, embedding)
    return frame


def _memories(model: SAM2, frame: FrameFeatures, rows: Sequence[_Row]) -> Tensor:
    """Encode what is remembered of n objects, (n, T, M)."""
    low = torch.stack(
        [
            cleaned(row.low_res_logits, model.config.fill_hole_area)
            if row.prompted
            else row.low_res_logits
            for row in rows
        ]
    )
    scores = torch.stack([row.object_score_logits for row in rows])  # (n, 1)
    prompted = torch.tensor([row.prompted for row in rows], device=low.device)
    memory: Tensor = _encode_memory(model, frame, low, scores, prompted)
    return memory


def _checked_prompts(
    prompts_at: Mapping[int, Mapping[int, PromptLike]], count: int
) -> dict[int, dict[int, Prompt]]:
    """Read the prompts; see `clip_logits`."""
    parsed = {
        t: {k: Prompt.of(prompt) for k, prompt in prompts.items()}
        for t, prompts in prompts_at.items()
        if prompts
    }
    if not parsed:
        raise InputError(
            "expected at least one prompt, got none",
            hint="prompts_at={0: {1: Prompt(points=[[x, y]])}} points at object 1 on frame 0",
        )
    outside = sorted(t for t in parsed if not 0 <= t < count)
    if outside:
        raise InputError(f"expected prompts on frames 0 to {count - 1}, got frame {outside[0]}")
    return parsed
