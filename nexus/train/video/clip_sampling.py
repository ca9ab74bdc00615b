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
from nexus.data.clicks.game import Game, Kind, Target, check_shares, clicks_of, draw_kind
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledVideo
from nexus.train.config import Checked, ranged

FirstPrompt = Literal["mask", "click", "box"]
"""What a clip may begin with."""

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
        check_shares(self.first, get_args(FirstPrompt))


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
        masks = zip(self.object_ids, self.masks[0], strict=True)
        if self.kind == "mask":
            return {k: Prompt(mask=mask) for k, mask in masks}
        kind: Kind = "random" if self.kind == "click" else "jittered_box"
        return {k: Target(mask).point(kind, self.rng) for k, mask in masks}


class ClickTeacher:
    """Corrects a clip with clicks on what is wrong, as `nexus.train.video.clip_forward` asks it to.

    Args:
        sample: The clip.
        prompts: Those on its first frame.
    """

    def __init__(self, sample: ClipSample, prompts: Mapping[int, Prompt]) -> None:
        self._object_ids = sample.object_ids
        self._games: dict[int, Game] = {}
        # Anywhere in what is wrong, as the original trains; the model keeps its last mask itself.
        how: dict[str, Any] = {"chance": sample.rng, "random_error": 1.0, "mask_share": 0.0}
        for t in sample.corrected:
            targets = [Target(mask, sample.ignored[t], **how) for mask in sample.masks[t]]
            self._games[t] = Game(targets, 1 + sample.clicks)
        first = self._games[0].playing if 0 in self._games else ()
        for k, target in zip(sample.object_ids, first, strict=False):
            target.clicks, target.box = clicks_of(prompts[k]), prompts[k].box

    def __call__(
        self, frame_index: int, masks: Mapping[int, NDArray[np.bool_]]
    ) -> dict[int, Prompt]:
        """Return the next prompts on a frame, with all clicks so far; none where it is enough."""
        game = self._games.get(frame_index)
        if game is None:
            return {}
        game.take((masks[k], None) for k in self._object_ids)
        return dict(zip(self._object_ids, game.prompts, strict=False))


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
        first = video.load_labels(indices[0])
        present = [int(k) for k in np.unique(first) if k > 0]
        if present:
            break
    else:
        raise InputError(
            f"expected frames with an object on them, got none in {_TRIES} draws",
            hint="is 0 the background of the label maps, and are the objects 1 and above?",
        )
    chosen = sorted(int(k) for k in rng.permutation(present)[: settings.most_objects])
    maps = np.stack([first, *(video.load_labels(index) for index in indices[1:])])  # (T, H, W)
    frames: list[NDArray[Any]] = [load_image(video.frames[index]) for index in indices]
    if rng.random() < settings.flip:
        maps = maps[..., ::-1]
        frames = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]
    kind = draw_kind(rng, settings.first)
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


def _places(count: int, settings: ClipSettings, rng: np.random.Generator) -> list[int]:
    """Draw which of `count` annotated frames a clip has, in its order."""
    length = min(settings.frames, count)
    stride = 1 + int(rng.integers(min(settings.max_stride, (count - 1) // (length - 1))))
    start = int(rng.integers(count - (length - 1) * stride))
    places = [start + stride * step for step in range(length)]
    return places[::-1] if rng.random() < settings.reverse else places
