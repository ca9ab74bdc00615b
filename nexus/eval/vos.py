"""Semi-supervised video object segmentation: objects are given by their first mask and tracked.

J is the IoU of a frame's mask and F the boundary measure, as DAVIS defines them ("A Benchmark
Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016). An object counts on
the annotated frames after the one it is given on. DAVIS leaves out the last frame as well;
YouTube-VOS, MOSE and SA-V do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.types import FrameMasks
from nexus.data.truth.labelled import LabelledVideo, tight_box
from nexus.eval.metrics import boundary_f, iou
from nexus.models.cv.sam2 import SAM2
from nexus.ops.rle import encode_rle

Labels: TypeAlias = NDArray[Any] | Mapping[int, NDArray[np.bool_]]
"""One frame: a label map (H, W) with 0 for background, or masks by id where they may overlap."""

Tracker: TypeAlias = Callable[[LabelledVideo], Iterator[Labels]]
"""Yields what every frame of a video shows, from the first on."""


@dataclass(frozen=True)
class SessionTracker:
    """Track with a video session: each object enters on the frame it is given on.

    Attributes:
        model: SAM 2 or EdgeTAM.
        input_side: Side of the model frame, pixels; None takes the model's.
    """

    model: SAM2
    input_side: int | None = None

    def __call__(self, video: LabelledVideo) -> Iterator[Labels]:
        """Yield the label map of each frame, or the masks if the truth's overlap as well.

        Raises:
            InputError: No object is given, or an object is not in the label map it is given by.
            VideoError: A frame cannot be read.
        """
        entrances = sorted(set(video.first_frames.values()))
        if not entrances:
            raise InputError(f"expected objects to track in {video.name!r}, got none")
        source = list(video.frames)
        with self.model.video(source, input_side=self.input_side) as session:
            for _ in range(entrances[0]):
                yield np.zeros(session.size_hw, np.int32)
            for start, stop in zip(entrances, [*entrances[1:], None], strict=True):
                for object_id, mask in given_masks(video, start).items():
                    session.add(start, object_id, mask=mask)
                for frame in session.propagate(start, stop):
                    if video.load_masks is None:
                        yield label_map(frame)
                    else:
                        yield dict(zip(frame.object_ids, frame.masks, strict=True))


def given_masks(video: LabelledVideo, start: int) -> dict[int, NDArray[np.bool_]]:
    """Return the masks of the objects that are given on a frame, by id.

    Raises:
        InputError: The frame's label map lacks one of them, or there is no such map.
    """
    present = video.masks(start)
    wanted = [k for k, first in video.first_frames.items() if first == start]
    lacking = [k for k in wanted if k not in present]
    if lacking:
        raise InputError(
            f"expected object {lacking[0]} in the label map of frame {start} of {video.name!r}, "
            f"got objects {sorted(present)}"
        )
    return {k: present[k] for k in wanted}


def label_map(frame: FrameMasks) -> NDArray[np.int32]:
    """Return one label a pixel: the object with the highest logit, 0 where none is above 0."""
    height, width = frame.masks.shape[1:]
    if not len(frame):
        return np.zeros((height, width), np.int32)
    logits = frame.logits  # (K, H, W)
    ids = np.asarray(frame.object_ids, np.int32)
    return np.where(logits.max(0) > 0, ids[logits.argmax(0)], 0).astype(np.int32)


def video_rows(
    video: LabelledVideo, predicted: Iterator[Labels], *, leave_out_last: bool = False
) -> list[dict[str, Any]]:
    """Score the label maps of a video; return a row for each object, in the order of the ids.

    Args:
        video: With the truth.
        predicted: What a `Tracker` yields for it.
        leave_out_last: Do not count the last frame of the video.

    Returns:
        Rows with `j`, `f` and `j_and_f` (means over frames; None where no frame counts), and
        `frames`, `j_per_frame`, `f_per_frame`.

    Raises:
        InputError: A mask has another size than the truth, or there are too few frames.
    """
    scores = [_Scores(video, object_id) for object_id in sorted(video.first_frames)]
    last = len(video.frames) - 1
    counted = [t for t in video.annotated if not (leave_out_last and t == last)]
    wanted, seen = set(counted), -1
    for seen, labels in enumerate(predicted):
        if seen not in wanted:
            continue
        truth = _Frame.of(video, seen)
        shown = labels if isinstance(labels, Mapping) else np.asarray(labels)
        for each in scores:
            if isinstance(shown, Mapping):
                mask = shown.get(each.object_id)
            else:
                mask = shown == each.object_id
            each.take(truth, mask)
    if counted and seen < counted[-1]:
        raise InputError(
            f"expected masks for each of {len(video.frames)} frames of {video.name!r}, "
            f"got {seen + 1}"
        )
    return [each.row() for each in scores]


@dataclass(frozen=True)
class _Frame:
    """The truth of one frame."""

    index: int
    masks: Mapping[int, NDArray[np.bool_]]
    ignored: NDArray[np.bool_] | None
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, video: LabelledVideo, index: int) -> _Frame:
        labels = video.load_labels(index)
        void = labels < 0
        masks = video.masks(index)
        return cls(index, masks, void if void.any() else None, (labels.shape[0], labels.shape[1]))


class _Scores:
    """J and F of one object, frame by frame."""

    def __init__(self, video: LabelledVideo, object_id: int) -> None:
        self.name = video.name
        self.object_id = object_id
        self.first = video.first_frames[object_id]
        self.given = given_masks(video, self.first)[object_id]
        self.frames: list[int] = []
        self.j: list[float] = []
        self.f: list[float] = []
        self._worst: NDArray[np.bool_] | None = None

    def take(self, truth: _Frame, mask: NDArray[np.bool_] | None) -> None:
        """Score one frame, if the object is to be there by then."""
        if truth.index <= self.first:
            return
        nothing = np.zeros(truth.size_hw, np.bool_)
        actual = truth.masks.get(self.object_id, nothing)
        mask = nothing if mask is None else mask
        if mask.shape != actual.shape:
            raise InputError(
                f"expected masks of {actual.shape} for {self.name!r}, as its frames are, "
                f"got {mask.shape} for frame {truth.index}"
            )
        j = float(iou(mask, actual, truth.ignored))
        if not self.j or j < min(self.j):
            self._worst = mask
        self.frames.append(truth.index)
        self.j.append(j)
        self.f.append(float(boundary_f(mask, actual, ignored=truth.ignored)))

    def row(self) -> dict[str, Any]:
        """Return the row of the object, with the mask of its worst frame."""
        j, f = _mean(self.j), _mean(self.f)
        row: dict[str, Any] = {
            "object_id": self.object_id,
            "category": None,
            "area": int(np.count_nonzero(self.given)),
            "box": list(tight_box(self.given)),
            "j": j,
            "f": f,
            "j_and_f": None if j is None or f is None else (j + f) / 2,
            "frames": self.frames,
            "j_per_frame": self.j,
            "f_per_frame": self.f,
        }
        if self._worst is not None:
            row["worst_frame"] = self.frames[int(np.argmin(self.j))]
            row["prediction"] = encode_rle(self._worst)
        return row


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
