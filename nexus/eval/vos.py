"""Semi-supervised video object segmentation: objects are given by their first mask and tracked.

J and F of a frame are those of `nexus.eval.metrics.video`. An object counts on the annotated frames
after the one it is given on. DAVIS leaves out the last frame as well; YouTube-VOS, MOSE and SA-V do
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core import words
from nexus.core.errors import InputError
from nexus.core.types import FrameMasks
from nexus.data.truth.labelled import LabelledVideo
from nexus.eval.metrics.overlap import Mask
from nexus.eval.metrics.video import VideoScores, frame_scores
from nexus.models.tracking import TrackingModel
from nexus.ops.boxes import tight_box
from nexus.ops.rle import encode_rle

VOS_METRICS = ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay", "j_and_f")
"""What a row of an object has as figures."""

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

    model: TrackingModel
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
    for k in wanted:
        if k not in present:
            raise InputError(
                f"expected object {k} in the label map of frame {start} of {video.name!r}, "
                f"got objects {sorted(present)}"
            )
    return {k: present[k] for k in wanted}


def label_map(frame: FrameMasks) -> NDArray[np.int32]:
    """Return one label a pixel: the object with the highest logit, 0 where none is above 0."""
    if not len(frame):
        return np.zeros(frame.masks.shape[1:], np.int32)
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
        Rows with `j`, `f` and `j_and_f` (means over frames), `j_recall`, `j_decay`, `f_recall` and
        `f_decay` (as in `frame_statistics`), all None where no frame counts; and `frames`,
        `j_per_frame`, `f_per_frame`.

    Raises:
        InputError: A mask has another size than the truth, or there are too few frames.
    """
    tallies = [_Tally(video, object_id) for object_id in sorted(video.first_frames)]
    last = len(video.frames) - 1
    counted = [index for index in video.annotated if not (leave_out_last and index == last)]
    wanted, seen = set(counted), -1
    for seen, shown in enumerate(predicted):
        if seen not in wanted:
            continue
        labels, truths = video.load_labels(seen), video.masks(seen)
        ignored = labels < 0 if (labels < 0).any() else None
        for tally in (each for each in tallies if each.first < seen):
            if isinstance(shown, Mapping):
                mask = shown.get(tally.object_id, np.zeros(labels.shape, np.bool_))
            else:
                mask = np.asarray(shown) == tally.object_id
            if mask.shape != labels.shape:
                raise InputError(
                    f"expected masks of {labels.shape} for {video.name!r}, as its frames are, "
                    f"got {mask.shape} for frame {seen}"
                )
            tally.take(seen, mask, truths.get(tally.object_id), ignored)
    if counted and seen < counted[-1]:
        raise InputError(
            f"expected masks for each of {words.counted(len(video.frames), 'frame')} of "
            f"{video.name!r}, got {seen + 1}"
        )
    return [tally.row() for tally in tallies]


class _Tally:
    """J and F of one object, frame by frame."""

    def __init__(self, video: LabelledVideo, object_id: int) -> None:
        self.object_id = object_id
        self.first = video.first_frames[object_id]
        self.given = given_masks(video, self.first)[object_id]
        self.scores: dict[int, tuple[float, float]] = {}
        self.worst: tuple[int, NDArray[np.bool_]] | None = None

    def take(self, index: int, mask: Mask, truth: Mask | None, ignored: Mask | None) -> None:
        """Score one frame."""
        score = frame_scores(mask, truth, ignored)
        if score[0] < min((j for j, _ in self.scores.values()), default=math.inf):
            self.worst = index, mask
        self.scores[index] = score

    def row(self) -> dict[str, Any]:
        """Return the row of the object, with the mask of its worst frame."""
        row: dict[str, Any] = {
            "object_id": self.object_id,
            "category": None,
            "area": int(np.count_nonzero(self.given)),
            "box": list(tight_box(self.given)),
            **dict.fromkeys(VOS_METRICS),
            "frames": [*self.scores],
            "j_per_frame": [j for j, _ in self.scores.values()],
            "f_per_frame": [f for _, f in self.scores.values()],
        }
        if self.worst is None:
            return row
        scores = VideoScores.of([*self.scores.values()])
        j, f, (index, mask) = scores.j_statistics, scores.f_statistics, self.worst
        figures = (j.mean, j.recall, j.decay, f.mean, f.recall, f.decay, scores.j_and_f)
        row |= zip(VOS_METRICS, figures, strict=True)
        return {**row, "worst_frame": index, "prediction": encode_rle(mask)}
