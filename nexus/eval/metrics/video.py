"""J, F and J&F of objects in videos, as the DAVIS benchmarks define them.

Perazzi et al. (CVPR 2016) and Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
Segmentation": J is the IoU of a frame, F its boundary measure. An object's mean, recall and decay
are taken over its frames, a benchmark's over its objects. In the semi-supervised task neither the
first frame, whose mask is given, nor the last is counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.eval.metrics.boundary import boundary_f
from nexus.eval.metrics.overlap import iou

Frame: TypeAlias = NDArray[Any] | None
Masks: TypeAlias = Sequence[Frame]
Values: TypeAlias = NDArray[np.float64]

_RECALL_ABOVE = 0.5
_QUARTERS = 4


@dataclass(frozen=True)
class FrameStatistics:
    """What DAVIS reports of a measure over the frames of one object.

    Attributes:
        mean: Over frames.
        recall: Share of the frames above 0.5.
        decay: Mean of the first quarter of the frames less that of the last; below 0 if it grew.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, eq=False)
class VideoScores:
    """J and F of one object, frame by frame.

    Attributes:
        j: (T,) IoU of each frame that counts.
        f: (T,) boundary F of the same frames.
    """

    j: NDArray[np.float64]
    f: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Sequence[tuple[float, float]]) -> VideoScores:
        """Put the J and F of at least one frame together."""
        return cls(*np.array(frames).T)  # (T, 2) -> two of (T,)

    @property
    def j_statistics(self) -> FrameStatistics:
        """Mean, recall and decay of J."""
        return frame_statistics(self.j)

    @property
    def f_statistics(self) -> FrameStatistics:
        """Mean, recall and decay of F."""
        return frame_statistics(self.f)

    @property
    def j_and_f(self) -> float:
        """The mean of the mean J and the mean F."""
        return float((self.j.mean() + self.f.mean()) / 2)


def jaccard_frames(predicted: Masks, truth: Masks, ignored: Masks | None = None) -> Values:
    """Return J of each frame: the IoU of the two masks.

    All are T masks, bool (H, W), with None for a frame without the object; those of `ignored` are
    of pixels that count for nothing, with None for a frame where all count.

    Returns:
        (T,) in [0, 1]; 1 where the object is in neither, 0 where it is in one.

    Raises:
        InputError: Different numbers of frames, or masks that `iou` refuses.

    Examples:
        >>> jaccard_frames([np.array([[True, True]]), None], [np.array([[True, False]]), None])
        array([0.5, 1. ])
    """
    return np.array([_measure(iou, *frame) for frame in _frames(predicted, truth, ignored)])


def boundary_frames(predicted: Masks, truth: Masks, ignored: Masks | None = None) -> Values:
    """Return F of each frame: `boundary_f` with its default bound.

    Arguments, result and errors are those of `jaccard_frames`.
    """
    return np.array([_measure(boundary_f, *frame) for frame in _frames(predicted, truth, ignored)])


def frame_scores(predicted: Frame, truth: Frame, ignored: Frame = None) -> tuple[float, float]:
    """Return J and F of one frame; arguments and errors are those of `jaccard_frames`."""
    frame = (predicted, truth, ignored)
    return _measure(iou, *frame), _measure(boundary_f, *frame)


def frame_statistics(values: ArrayLike) -> FrameStatistics:
    """Return mean, recall and decay of a measure, (T,) with one value a frame.

    The quarters share their borders, as in the DAVIS toolkit: with T frames they end at frames
    round(1 + k (T - 1) / 4), and both neighbours have the frame on a border.

    Raises:
        InputError: No frame.

    Examples:
        >>> frame_statistics([1.0, 0.75, 0.5, 0.5, 0.25])
        FrameStatistics(mean=0.6, recall=0.4, decay=0.5)
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f"expected a value for at least one frame, got shape {array.shape}")
    # The small number makes halves round up, as MATLAB rounds and NumPy does not.
    marks = np.round(np.linspace(1, len(array), _QUARTERS + 1) + 1e-10).astype(np.int64) - 1
    first, last = array[: marks[1] + 1], array[marks[-2] :]
    return FrameStatistics(
        mean=float(array.mean()),
        recall=float(np.mean(array > _RECALL_ABOVE)),
        decay=float(first.mean() - last.mean()),
    )


def j_and_f(
    predicted: Masks, truth: Masks, ignored: Masks | None = None, *, skip_ends: bool = True
) -> VideoScores:
    """Return J and F of one object over the frames of a video.

    `skip_ends` leaves out the first and the last frame, as the semi-supervised task does. The other
    arguments and errors are those of `jaccard_frames`; no frame that counts is an InputError too.
    """
    frames = _frames(predicted, truth, ignored)
    if skip_ends:
        frames = frames[1:-1]
    if not frames:
        raise InputError(
            f"expected at least one frame that counts, got a video of {len(truth)}",
            hint="skip_ends=False counts the first and the last frame too",
        )
    return VideoScores.of([frame_scores(*frame) for frame in frames])


def score_label_maps(
    predicted: Iterable[NDArray[Any] | None],
    truth: Iterable[NDArray[Any]],
    first_frames: Mapping[int, int],
    *,
    skip_last: bool = True,
) -> dict[int, VideoScores]:
    """Return J and F of every object of a video, read one frame at a time.

    An object counts from the frame after the one it is given on, whether it is seen there or not.

    Args:
        predicted: T label maps, integers (H, W); None for a frame nothing was predicted for. An id
            that `first_frames` does not have is not looked at.
        truth: T label maps; values below 0 are pixels that count for nothing.
        first_frames: By object id, the frame on which its mask is given to the tracker.
        skip_last: Leave out the last frame, as DAVIS does.

    Raises:
        InputError: Different numbers of frames or sizes, label maps that are not of integers, or an
            object without a frame that counts.
    """
    if not first_frames:
        raise InputError("expected at least one object, got none")
    scores: dict[int, list[tuple[float, float]]] = {object_id: [] for object_id in first_frames}
    missing = object()
    pairs: Iterator[Any] = itertools.zip_longest(predicted, truth, fillvalue=missing)
    for index, (labels, wanted) in enumerate(pairs):
        if labels is missing or wanted is missing:
            raise InputError(
                "expected as many predicted label maps as true ones, got fewer or more",
                hint="None stands for a frame nothing was predicted for",
            )
        for array in (wanted, wanted if labels is None else labels):
            if not np.issubdtype(np.asarray(array).dtype, np.integer):
                kind = np.asarray(array).dtype
                raise InputError(f"expected label maps of integers, got {kind} in frame {index}")
        ignored = np.asarray(wanted) < 0
        for object_id in (key for key, first in first_frames.items() if index > first):
            mask = None if labels is None else labels == object_id
            frame = frame_scores(mask, wanted == object_id, ignored if ignored.any() else None)
            scores[object_id].append(frame)
    result = {}
    for object_id, frames in scores.items():
        counted = frames[:-1] if skip_last else frames
        if not counted:
            raise InputError(
                f"expected at least one frame that counts for object {object_id}, got none",
                hint="skip_last=False counts the last frame too",
            )
        result[object_id] = VideoScores.of(counted)
    return result


def davis_summary(scores: Iterable[VideoScores]) -> dict[str, float]:
    """Return the seven numbers of a DAVIS table: means over every object of every video alike.

    Returns:
        `j_and_f`, `j_mean`, `j_recall`, `j_decay`, `f_mean`, `f_recall`, `f_decay`.

    Raises:
        InputError: No object.
    """
    objects = list(scores)
    if not objects:
        raise InputError("expected the scores of at least one object, got none")
    summary = {"j_and_f": float(np.mean([o.j_and_f for o in objects]))}
    for letter, name in itertools.product("jf", ("mean", "recall", "decay")):
        values = [getattr(getattr(o, f"{letter}_statistics"), name) for o in objects]
        summary[f"{letter}_{name}"] = float(np.mean(values))
    return summary


def _frames(predicted: Masks, truth: Masks, ignored: Masks | None) -> list[tuple[Any, Any, Any]]:
    void: Masks = [None] * len(truth) if ignored is None else ignored
    if not len(predicted) == len(truth) == len(void):
        numbers = [len(predicted), len(truth)] + ([] if ignored is None else [len(ignored)])
        raise InputError(
            f"expected as many predicted frames as true ones, got {numbers}",
            hint="None stands for a frame without the object",
        )
    return list(zip(predicted, truth, void, strict=True))


def _measure(metric: Any, predicted: Frame, truth: Frame, ignored: Frame) -> float:
    """Return a metric of one frame, where None is an empty mask."""
    if predicted is None and truth is None:
        return 1.0
    size = np.asarray(truth if predicted is None else predicted).shape
    both = (np.zeros(size, np.bool_) if mask is None else mask for mask in (predicted, truth))
    return float(metric(*both, ignored=ignored))
