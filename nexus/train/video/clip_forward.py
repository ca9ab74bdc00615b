"""SAM 2 over a short clip with its memory, with gradients from every frame to all before it.

Follows the training of "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714, appendix
D.2): prompted frames are answered first, then the others are tracked in order, each looking back at
what is remembered, and all objects go through every part of the model together. The steps are
those of `nexus.models.tracking_step`, as in a session, and so are the numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nexus.core.errors import InputError, VideoError
from nexus.core.types import Geometry, ImageEmbedding, Prompt, PromptLike
from nexus.data.images.loading import ImageLike, load_image
from nexus.models.frame import image_to_frame, masks_to_original, token_count
from nexus.models.memory import FrameFeatures, ObjectOutputs, Past, Remembered
from nexus.models.tracking_step import (
    MemoryModel,
    TrackingHabits,
    answer,
    check_prompt,
    condition,
    remember,
)
from nexus.nn.batching import alike

Corrector: TypeAlias = "Callable[[int, Mapping[int, NDArray[np.bool_]]], Mapping[int, Prompt]]"
"""Given a frame index and the masks on it by object id, in original pixels, say how each object is
prompted next on that frame, with all its earlier points; an empty answer ends the corrections."""

_Result = TypeVar("_Result")


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


def habits_of_learning(model: MemoryModel) -> TrackingHabits:
    """Return the habits of a model that learns, for `clip_logits`, as in the original's training.

    A hard mask in memory has no gradient, and neither holes that are filled nor another candidate
    may stand in for the mask that is taught.
    """
    return dataclasses.replace(
        model.config, stability=None, binarize_clicks=False, fill_hole_area=0
    )


def clip_logits(
    model: MemoryModel,
    frames: Tensor | Sequence[ImageLike],
    prompts_at: Mapping[int, Mapping[int, PromptLike]],
    *,
    correct: Corrector | None = None,
    habits: TrackingHabits | None = None,
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
        habits: How the model tracks; None takes its configuration's, so that the numbers are those
            of a session. To learn, `habits_of_learning`.
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
    outside = sorted(t for t in parsed if not 0 <= t < len(frames))
    if outside:
        raise InputError(
            f"expected prompts on frames 0 to {len(frames) - 1}, got frame {outside[0]}"
        )
    run = _ClipRun(model, correct, habits or model.config, gradient_frames, checkpointing)
    run.encode(list(frames))
    run.answer(parsed)
    return run.result()


class _Row(NamedTuple):
    """One object's part of `ObjectOutputs`, and whether a caller pointed at it there."""

    low_res_logits: Tensor
    iou_score: Tensor
    object_score_logits: Tensor
    pointer: Tensor
    prompted: bool


@dataclass(eq=False)
class _ClipRun:
    """One pass over a clip: what is remembered of each object so far, and what was answered."""

    model: MemoryModel
    correct: Corrector | None
    habits: TrackingHabits
    gradient_frames: int | None
    checkpointing: bool
    frames: list[FrameFeatures] = field(default_factory=list)
    conditioning: dict[int, dict[int, Remembered]] = field(default_factory=dict)
    others: dict[int, dict[int, Remembered]] = field(default_factory=dict)
    rows: list[dict[int, _Row]] = field(default_factory=list)
    answers: list[list[Answer]] = field(default_factory=list)

    def encode(self, frames: Sequence[ImageLike]) -> None:
        """Encode the frames one by one, under the video policy."""
        weight = next(self.model.parameters())
        for index, image in enumerate(frames):
            tensor, geometry = image_to_frame(load_image(image), self.model.video_policy)
            if self.frames and geometry != self.frames[0].geometry:
                height, width = self.frames[0].geometry.original_size_hw
                h, w = geometry.original_size_hw
                raise VideoError(
                    f"expected frames of {width} x {height} pixels like the first, got {w} x {h} "
                    f"at frame {index}",
                    hint="bring all frames to one size",
                )
            batch = tensor.unsqueeze(0).to(weight.device, weight.dtype)
            maps = self._run(self.model.frontend.features, self.model.image_encoder, batch)
            features, *finer = (each[0] for each in maps)
            embedding = ImageEmbedding(features, geometry, self.model.variant, "", tuple(finer))
            self.frames.append(self.model.frame_features(embedding))
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
            each = dict.fromkeys(prompts_at[t], self.model.without_memory(self.frames[t]))
            self._answer(t, each, prompts_at[t])
            self._finish(t, each, self.conditioning)
        span = self.habits.pointer_span(len(self.frames))
        for t, frame in enumerate(self.frames):
            waiting = [k for k in self.conditioning if t not in self.conditioning[k]]
            if not waiting:
                continue
            pasts = [self._past(t, k) for k in waiting]
            features = self._run(condition, self.model, frame, t, pasts, span, False, self.habits)
            outputs = self._run(self.model.decode_objects, frame, features, None, self.habits)
            self._take(t, waiting, outputs, prompted=False)
            each = {k: features[row : row + 1] for row, k in enumerate(waiting)}
            self._finish(t, each, self.others)

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

    def _past(self, t: int, object_id: int) -> Past:
        """Return what is remembered of an object, cut off from gradients that are too old."""
        most = math.inf if self.gradient_frames is None else self.gradient_frames
        kinds = (
            {
                u: seen if abs(t - u) <= most else seen.detached()
                for u, seen in kind[object_id].items()
            }
            for kind in (self.conditioning, self.others)
        )
        return Past(*kinds)

    def _answer(
        self, t: int, features: Mapping[int, Tensor], prompts: Mapping[int, Prompt]
    ) -> None:
        """Answer prompts on a frame; those alike together."""
        rows = self.rows[t]
        objects = list(prompts)
        kinds = [
            (
                token_count(prompt, self.model.policy),
                None if prompt.mask is None else prompt.mask.dtype == np.bool_,
                k in rows,
            )
            for k, prompt in prompts.items()
        ]
        for places in alike(kinds):
            ids = [objects[place] for place in places]
            # An earlier answer is an input like any other: no gradient runs through it.
            before = [rows[k].low_res_logits.detach() for k in ids if k in rows]
            outputs = self._run(
                answer,
                self.model,
                self.frames[t],
                torch.cat([features[k] for k in ids]),
                [prompts[k] for k in ids],
                torch.stack(before) if before else None,
                self.habits,
            )
            self._take(t, ids, outputs, prompted=True)

    def _take(self, t: int, ids: Sequence[int], outputs: ObjectOutputs, *, prompted: bool) -> None:
        """Keep what was answered, and all candidates for the loss."""
        decoded = outputs.decoded
        if decoded is not None:
            self.answers[t].append(
                Answer(
                    tuple(ids),
                    decoded.low_res_logits.float(),
                    decoded.iou_scores.float(),
                    decoded.object_score_logits[:, 0].float(),
                )
            )
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
        ids, frame = list(features), self.frames[t]
        while self.correct is not None:
            low = torch.stack([self.rows[t][k].low_res_logits.detach() for k in ids])
            masks = masks_to_original(low, frame.geometry, self.model.policy)
            wanted = self.correct(t, dict(zip(ids, masks, strict=True)))
            if not wanted:
                break
            for prompt in wanted.values():
                check_prompt(prompt, frame.geometry.original_size_hw)
            self._answer(t, features, wanted)
        rows = [self.rows[t][k] for k in ids]
        memories = self._run(
            remember,
            self.model,
            frame,
            torch.stack([row.low_res_logits for row in rows]),
            torch.stack([row.object_score_logits for row in rows]),  # (n, 1)
            [row.prompted for row in rows],
            self.habits,
        )
        for k, row, memory in zip(ids, rows, memories, strict=True):
            kind[k][t] = Remembered(memory, row.pointer)

    def _run(self, step: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run a step, keeping what it needs for the backward pass or only what goes in."""
        if not self.checkpointing:
            return step(*arguments)
        result: _Result = checkpoint(step, *arguments, use_reentrant=False)
        return result
