"""Short clips drawn from labelled videos, and the prompts they are given.

Follows the training of "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714, appendix
D.2): clips of 8 frames with up to 3 objects, forward or backward in time, prompted on the first
frame with the true mask (half of the time), a click (a quarter) or a box (a quarter); clips that
begin with a click or a box are corrected by clicks, on the first frame and on others.

A clip is a pure function of the settings and the numbers it is drawn by, so that a run that is
taken up again sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.types import Prompt
from nexus.data.clicks.rounds import PromptSettings, first_prompt, next_prompt
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledVideo
from nexus.train.config import Checked, ranged

FirstPrompt = Literal["mask", "click", "box"]
"""What a clip may begin with."""

# A prompt may not be empty; corrections carry on clicks and box, of which this one has none.
_UNPROMPTED = Prompt(mask=np.zeros((1, 1), np.bool_))
_TRIES = 50  # draws of a clip that may begin on a frame without an object


@dataclass(frozen=True)
class ClipSettings(Checked):
    """How clips are drawn.

    Attributes:
        frames: Annotated frames of a clip; fewer where a video has fewer.
        most_objects: Objects of a clip.
        max_stride: Neighbours in a clip are up to this many annotated frames apart.
        reverse: Share of clips that go back in time.
        flip: Share of clips that are mirrored.
        first: Shares of what a clip begins with: 'mask', 'click' (anywhere on the object) and
            'box' (with noise).
        clicks: Corrections on a corrected frame of a clip that begins with a click or a box.
        corrected_frames: Frames of such a clip that are corrected, the first among them.
    """

    frames: int = ranged(8, 2)
    most_objects: int = ranged(3, 1)
    max_stride: int = ranged(1, 1)
    reverse: float = ranged(0.5, 0, 1)
    flip: float = ranged(0.5, 0, 1)
    first: dict[FirstPrompt, float] = field(
        default_factory=lambda: {"mask": 0.5, "click": 0.25, "box": 0.25}
    )
    clicks: int = ranged(3, 0)
    corrected_frames: int = ranged(2, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted(set(self.first) - set(get_args(FirstPrompt)))
        if unknown:
            raise InputError(
                f"expected first prompts among {', '.join(get_args(FirstPrompt))}, "
                f"got {', '.join(unknown)}"
            )
        if min(self.first.values(), default=0) < 0 or sum(self.first.values()) <= 0:
            raise InputError(
                "expected shares of first prompts that are 0 or more with a sum above 0, "
                f"got {self.first}"
            )


@dataclass(frozen=True, eq=False)
class ClipSample:
    """T frames of a video with K objects, and how they are prompted.

    Attributes:
        video: Its name.
        indices: The frames' places in the video.
        frames: (H, W, 3) RGB, T of them.
        masks: Bool (T, K, H, W).
        ignored: Bool (T, H, W), pixels that count for nothing.
        object_ids: The K ids, as the video has them.
        kind: What it begins with, see `FirstPrompt`.
        corrected: Places in the clip of the frames that are corrected.
        clicks: Corrections on each of them.
        rng: Where the prompts come from; each use draws on.
    """

    video: str
    indices: tuple[int, ...]
    frames: tuple[NDArray[Any], ...]
    masks: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    object_ids: tuple[int, ...]
    kind: FirstPrompt
    corrected: tuple[int, ...]
    clicks: int
    rng: np.random.Generator

    def prompts(self) -> dict[int, Prompt]:
        """Draw the prompts on the first frame, by object id."""
        masks = dict(zip(self.object_ids, self.masks[0], strict=True))
        if self.kind == "mask":
            return {k: Prompt(mask=mask) for k, mask in masks.items()}
        kind: Any = {"click": "random", "box": "box"}[self.kind]
        return {k: first_prompt(mask, self.rng, kind=kind) for k, mask in masks.items()}


class ClickTeacher:
    """Corrects a clip with clicks on what is wrong, as `nexus.train.clips.clip_logits` asks it to.

    Args:
        sample: The clip.
        prompts: Those on its first frame.
    """

    def __init__(self, sample: ClipSample, prompts: Mapping[int, Prompt]) -> None:
        self.sample = sample
        self._given: dict[tuple[int, int], Prompt] = {(0, k): p for k, p in prompts.items()}
        self._rounds: dict[int, int] = {}
        # Anywhere in what is wrong, as the original trains.
        self._settings = PromptSettings(random_error_share=1.0, mask_share=0.0)

    def __call__(
        self, frame_index: int, masks: Mapping[int, NDArray[np.bool_]]
    ) -> dict[int, Prompt]:
        """Return the next prompts on a frame, with all clicks so far; none where it is enough."""
        done = self._rounds.get(frame_index, 0)
        if frame_index not in self.sample.corrected or done >= self.sample.clicks:
            return {}
        self._rounds[frame_index] = done + 1
        return {k: self._corrected(frame_index, k, mask) for k, mask in masks.items()}

    def _corrected(self, t: int, object_id: int, predicted: NDArray[np.bool_]) -> Prompt:
        sample = self.sample
        truth = sample.masks[t, sample.object_ids.index(object_id)]
        before = self._given.get((t, object_id), _UNPROMPTED)
        ignored, settings = sample.ignored[t], self._settings
        prompt = next_prompt(
            before, truth, predicted, sample.rng, settings=settings, ignored=ignored
        )
        self._given[t, object_id] = prompt
        return prompt


def usable_videos(videos: Sequence[LabelledVideo]) -> list[LabelledVideo]:
    """Return the videos that a clip can be drawn from: two annotated frames or more.

    Raises:
        InputError: None of them.
    """
    usable = [video for video in videos if len(video.annotated) > 1]
    if not usable:
        raise InputError(
            f"expected videos with at least two annotated frames, got none among {len(videos)}",
            hint="annotated single frames are images; train on them as images",
        )
    return usable


def draw_clip(videos: Sequence[LabelledVideo], settings: ClipSettings, *numbers: int) -> ClipSample:
    """Draw a clip.

    Args:
        videos: As `usable_videos` gives them.
        settings: How.
        numbers: The clip is a function of these alone, such as a seed, a step and a row.

    Raises:
        InputError: No frame with an object on it was met.
        ImageError: A frame cannot be read.
    """
    rng = np.random.default_rng(list(numbers))
    for _ in range(_TRIES):
        video = videos[int(rng.integers(len(videos)))]
        places = _places(len(video.annotated), settings, rng)
        indices = tuple(video.annotated[place] for place in places)
        labels = [video.load_labels(index) for index in indices[:1]]
        present = [int(k) for k in np.unique(labels[0]) if k > 0]
        if present:
            labels += [video.load_labels(index) for index in indices[1:]]
            return _sample(video, indices, labels, present, settings, rng)
    raise InputError(
        f"expected frames with an object on them, got none in {_TRIES} draws",
        hint="is 0 the background of the label maps, and are the objects 1 and above?",
    )


def _places(count: int, settings: ClipSettings, rng: np.random.Generator) -> list[int]:
    """Draw which of `count` annotated frames a clip has, in its order."""
    length = min(settings.frames, count)
    stride = 1 + int(rng.integers(min(settings.max_stride, (count - 1) // (length - 1))))
    start = int(rng.integers(count - (length - 1) * stride))
    places = [start + stride * step for step in range(length)]
    return places[::-1] if rng.random() < settings.reverse else places


def _sample(
    video: LabelledVideo,
    indices: tuple[int, ...],
    labels: Sequence[NDArray[np.int32]],
    present: Sequence[int],
    settings: ClipSettings,
    rng: np.random.Generator,
) -> ClipSample:
    chosen = sorted(int(k) for k in rng.permutation(present)[: settings.most_objects])
    maps = np.stack(labels)  # (T, H, W)
    frames: list[NDArray[Any]] = [load_image(video.frames[index]) for index in indices]
    if rng.random() < settings.flip:
        maps = maps[..., ::-1]
        frames = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]
    kinds = sorted(settings.first)
    shares = np.array([settings.first[kind] for kind in kinds], np.float64)
    kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    corrected: tuple[int, ...] = ()
    if kind != "mask" and settings.corrected_frames:
        later = 1 + rng.permutation(len(indices) - 1)[: settings.corrected_frames - 1]
        corrected = (0, *sorted(int(t) for t in later))
    return ClipSample(
        video.name,
        indices,
        tuple(frames),
        np.stack([maps == k for k in chosen], axis=1),
        maps < 0,
        tuple(chosen),
        kind,
        corrected,
        settings.clicks,
        rng,
    )
