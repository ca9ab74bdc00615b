"""What a tracked object is remembered by, and which of it a frame looks back at.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4: memories of
conditioning frames (those a caller prompted) and of the most recent other frames, and beside them
object pointers, which are smaller and reach further back. Everything here is a value; the steps
that make and read it are in `nexus.models.tracking_step`, and who keeps memories, and for how long,
is a session's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nexus.core.types import Geometry, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from nexus.nn.object_decoder import DecodedObjects

NO_OBJECT_LOGIT = -1024.0
"""Mask logit all over a frame that an object is not in."""


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """A frame as the steps of tracking need it; nothing in it belongs to an object.

    Attributes:
        features: (1, C, gh, gw) of the image encoder, before any memory.
        fine_pixels: The finer maps in the mask decoder's order, see `ObjectMaskDecoder.arrange`.
        positions: (C, gh, gw) position code for memory attention.
        image_pe: (1, C, gh, gw) position code for the mask decoder.
        geometry: How the original frame lies in the model frame.
    """

    features: Tensor
    fine_pixels: tuple[Tensor, Tensor]
    positions: Tensor
    image_pe: Tensor
    geometry: Geometry

    @property
    def mask_size_hw(self) -> tuple[int, int]:
        """(4 gh, 4 gw), the size of mask logits."""
        return 4 * self.features.shape[-2], 4 * self.features.shape[-1]


@dataclass(frozen=True, eq=False)
class ObjectOutputs:
    """What a frame shows of K objects.

    Attributes:
        low_res_logits: (K, 4 gh, 4 gw) float32 mask logits of the chosen candidate; -1024 all over
            where the object is not there.
        iou_scores: (K,) its predicted IoU.
        object_pointer: (K, C) what other frames may look back at.
        object_score_logits: (K, 1) above 0 where the object is in the frame.
        decoded: All candidates, also of objects that are not there; None for masks that were given.
    """

    low_res_logits: Tensor
    iou_scores: Tensor
    object_pointer: Tensor
    object_score_logits: Tensor
    decoded: DecodedObjects | None

    def rows(self) -> list[tuple[Tensor, float, float]]:
        """Return the mask logits, IoU score and object score of each object."""
        scores = zip(self.iou_scores.tolist(), self.object_score_logits[:, 0].tolist(), strict=True)
        return [(mask, *row) for mask, row in zip(self.low_res_logits, scores, strict=True)]


@dataclass(frozen=True, eq=False)
class Remembered:
    """One object on one frame.

    Attributes:
        memory: (T, M) memory tokens, a row of `encode_memory`.
        pointer: (C,) object pointer, a row of `ObjectOutputs.object_pointer`.
    """

    memory: Tensor
    pointer: Tensor

    def detached(self) -> Remembered:
        """Return it cut off from gradients."""
        return Remembered(self.memory.detach(), self.pointer.detach())


class Past(NamedTuple):
    """One object on all frames it is remembered on, by frame index.

    Attributes:
        conditioning: The frames a caller prompted it on.
        others: The frames it was tracked on.
    """

    conditioning: Mapping[int, Remembered]
    others: Mapping[int, Remembered]


class Seed(NamedTuple):
    """A prompt on an image, or on its embedding, that nothing has been remembered of yet."""

    image: Any
    prompt: Prompt


@dataclass(frozen=True, eq=False)
class TrackMemory:
    """What `track` looks back at: a value that each frame makes anew and that does not grow.

    Attributes:
        next_index: Number of the frame that comes next.
        objects: What is remembered of each object, by id.
        size_hw: Size of the frames.
        fingerprint: Digest of the model it belongs to.
        seed: A prompted image that is to become frame 0.
    """

    next_index: int = 0
    objects: Mapping[int, Past] = field(default_factory=dict)
    size_hw: tuple[int, int] = (0, 0)
    fingerprint: str = ""
    seed: Seed | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it to go on from."""
        return not self.objects and self.seed is None


@dataclass(frozen=True, eq=False)
class Recall:
    """What one object's next frame looks back at.

    Attributes:
        memories: (T, M) memory tokens of each frame.
        ages: For each, how many frames ago it was, from 1; 0 for a conditioning frame, however
            long ago.
        pointers: (C,) object pointers.
        pointer_ages: For each, how many frames ago it was in the direction of tracking.
    """

    memories: tuple[Tensor, ...]
    ages: tuple[int, ...]
    pointers: tuple[Tensor, ...]
    pointer_ages: tuple[int, ...]


def recall(
    frame_index: int,
    conditioning: Mapping[int, Remembered],
    others: Mapping[int, Remembered],
    *,
    reverse: bool = False,
    max_memories: int = 7,
    max_pointers: int = 16,
    max_conditioning: int | None = None,
) -> Recall:
    """Choose what a frame looks back at.

    Args:
        frame_index: The frame.
        conditioning: One object on the frames it was prompted on, by frame index.
        others: The same object on the frames it was tracked on.
        reverse: Tracking goes back in time.
        max_memories: The conditioning frames together count as one, so that at most this minus 1
            recent frames are taken.
        max_pointers: At most this minus 1 recent frames' pointers are taken; those of conditioning
            frames come on top.
        max_conditioning: Take only the nearest conditioning frames; None takes all.

    Returns:
        Conditioning frames first, in the order of `conditioning`; then recent frames, the
        memories from the oldest and the pointers from the newest.
    """
    sign = -1 if reverse else 1
    near = _nearest(frame_index, conditioning, max_conditioning)
    # A conditioning frame that is left out still counts as an ordinary recent frame.
    recent = {**{t: seen for t, seen in conditioning.items() if t not in near}, **others}
    ages = [age for age in range(max_memories - 1, 0, -1) if frame_index - sign * age in recent]
    memories = [seen.memory for seen in near.values()]
    memories += [recent[frame_index - sign * age].memory for age in ages]
    # Pointers of conditioning frames that lie ahead are not looked at.
    behind = {t: seen for t, seen in near.items() if (frame_index - t) * sign >= 0}
    pointer_ages = [age for age in range(1, max_pointers) if frame_index - sign * age in recent]
    pointers = [seen.pointer for seen in behind.values()]
    pointers += [recent[frame_index - sign * age].pointer for age in pointer_ages]
    return Recall(
        tuple(memories),
        (*(0 for _ in near), *ages),
        tuple(pointers),
        (*((frame_index - t) * sign for t in behind), *pointer_ages),
    )


def _nearest(
    frame_index: int, conditioning: Mapping[int, Remembered], most: int | None
) -> dict[int, Remembered]:
    """Return the conditioning frames nearest in time, the nearest on either side for certain."""
    if most is None or len(conditioning) <= most:
        return dict(conditioning)
    before = max((t for t in conditioning if t < frame_index), default=None)
    after = min((t for t in conditioning if t >= frame_index), default=None)
    chosen = [t for t in (before, after) if t is not None][:most]
    rest = sorted((t for t in conditioning if t not in chosen), key=lambda t: abs(t - frame_index))
    chosen += rest[: most - len(chosen)]
    return {t: seen for t, seen in conditioning.items() if t in chosen}
