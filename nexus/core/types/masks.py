"""The masks a model gives for one prompt, and those of the objects tracked in a video's frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.types.showing import Table, as_array, ground
from nexus.core.types.stack import (
    MaskStack,
    best_of,
    coco_annotations,
    detections,
    write_labels,
)

if TYPE_CHECKING:
    import supervision

_LARGEST_LABEL = 65535


@dataclass(frozen=True, eq=False)
class Masks(MaskStack):
    """The M mask candidates a model gives for one prompt, as NumPy arrays on the CPU.

    `np.asarray(masks)` is the (M, H, W) array; `len`, indexing and iteration go over candidates.

    Attributes:
        masks: (M, H, W) bool in the original image.
        iou_scores: (M,) the model's own estimate of each mask's IoU with the object.
        low_res_logits: (M, h, w) float32 mask logits in the model frame; any one of them can go
            back in as `Prompt(mask=...)` to refine the result.
        notes: What makes this result weaker than asked for, e.g. a point prompt given to a model
            trained on boxes only; empty if nothing does.
    """

    masks: NDArray[np.bool_]
    iou_scores: NDArray[np.float32]
    low_res_logits: NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        return np.asarray(self.masks[index])

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return iter(self.masks)

    @property
    def best_index(self) -> int:
        """Index of the candidate with the highest `iou_scores`."""
        return int(np.argmax(self.iou_scores))

    @property
    def best(self) -> NDArray[np.bool_]:
        """(H, W) bool: the candidate with the highest score."""
        return self[self.best_index]

    @property
    def best_score(self) -> float:
        """The highest score."""
        return float(self.iou_scores[self.best_index])

    @property
    def best_low_res_logits(self) -> NDArray[np.float32]:
        """(h, w) float32: logits of the best candidate, for `Prompt(mask=...)`."""
        return np.asarray(self.low_res_logits[self.best_index])

    def __repr__(self) -> str:
        best = f"best_index={self.best_index}, " if len(self) else ""
        notes = f", notes={len(self.notes)}" if self.notes else ""
        return (
            f"{type(self).__name__}(candidates={len(self)}, size_hw={self.original_size_hw}, "
            f"{best}best_score={best_of(self.iou_scores)}{notes})"
        )

    def overlay(
        self,
        image: Any,
        *,
        labels: bool | str = False,
        candidate: int | None = None,
        **drawing: Any,
    ) -> NDArray[np.uint8]:
        """Return an image with one candidate drawn on it.

        Args:
            image: The one that was segmented: a path, or whatever else a model takes.
            labels: Write the candidate's score at it; a name is written before the score.
            candidate: Which; the best if None.
            drawing: `boxes_xyxy`, `points_xy`, `colors`, `alpha`, `outline` of that function.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            InputError: An image that cannot be read or has another size, or no such candidate.
        """
        from nexus.ops.captions import Caption
        from nexus.ops.draw import overlay

        chosen = self.best_index if candidate is None and len(self) else candidate or 0
        if not -len(self) <= chosen < len(self):
            raise InputError(f"expected a candidate below {len(self)}, got {chosen}")
        name = labels if isinstance(labels, str) else None
        captions = [Caption(name=name, score=float(self.iou_scores[chosen]))] if labels else None
        return overlay(as_array(image), self.masks[chosen], captions=captions, **drawing)

    def to_coco(self, image_id: int = 1, category_id: int = 1) -> list[dict[str, Any]]:
        """Return one COCO annotation per candidate, with compressed RLE that pycocotools reads.

        The identifiers of image and category are put in each annotation.
        """
        return coco_annotations(self, range(1, len(self) + 1), image_id, category_id)

    def to_supervision(
        self, *, class_id: int = 0, class_name: str | None = None
    ) -> supervision.Detections:
        """Return the candidates as `supervision.Detections`, which its annotators draw.

        Args:
            class_id: Of the object; all candidates have it.
            class_name: What its `LabelAnnotator` writes; the number of the class if None.

        Returns:
            The candidates in order, numbered from 1 in `tracker_id`.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        numbers = range(1, len(self) + 1)
        return detections(self, range(len(self)), numbers, class_id, class_name)

    def _alone(self, longest: int | None, **drawing: Any) -> NDArray[np.uint8]:
        step = _step(self.original_size_hw, longest)
        seen = dataclasses.replace(self, masks=self.masks[:, ::step, ::step])
        if not len(self):
            return np.repeat(ground(seen.original_size_hw)[..., None], 3, axis=2)
        return seen.overlay(ground(seen.original_size_hw), **drawing)

    def _table(self) -> Table:
        each = zip(self.iou_scores, self.areas, self.boxes_xyxy.astype(int), strict=True)
        rows = [
            (
                f"{index}{' (best)' if index == self.best_index else ''}",
                f"{score:.3f}",
                *_cells(*of),
            )
            for index, (score, *of) in enumerate(each)
        ]
        return ("candidate", "score", "area, px", "box, x0 y0 x1 y1"), rows

    def _save_png(self, target: Path) -> Path:
        return write_labels(target, self.best.astype(np.uint8) * np.uint8(255), None)

    def _found(self) -> list[dict[str, Any]]:
        return [{**self.to_coco()[self.best_index], "id": 1}]


@dataclass(frozen=True, eq=False)
class FrameMasks(MaskStack):
    """K objects on one frame, as NumPy arrays on the CPU; `np.asarray` gives the masks.

    An object that has no answer on the frame yet has an empty mask, an IoU of 0 and an object
    score logit of -1024.

    Attributes:
        index: Number of the frame.
        time_s: When it is shown, seconds from the start.
        object_ids: The caller's K ids, in the order the objects were first prompted.
        masks: (K, H, W) bool in the original frame; they may overlap.
        iou_scores: (K,) float32, the model's own estimate of each mask's IoU with the object.
        object_score_logits: (K,) float32, above 0 where the object is in the frame.
        low_res_logits: (K, h, w) float32 mask logits in the model frame.
        memory: What the next `track` looks back at; None on frames of a session, which keeps its
            memory to itself.
        notes: What makes this result weaker than asked for; empty if nothing does.
    """

    index: int
    time_s: float
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    iou_scores: NDArray[np.float32]
    object_score_logits: NDArray[np.float32]
    low_res_logits: NDArray[np.float32]
    memory: Any = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.object_ids)

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """Return the (H, W) mask of one object.

        Raises:
            KeyError: No object of that id is on the frame.
        """
        if object_id not in self.object_ids:
            raise KeyError(f"expected an id among {list(self.object_ids)}, got {object_id!r}")
        return np.asarray(self.masks[self.object_ids.index(object_id)])

    def __repr__(self) -> str:
        ids = ", ".join(map(str, self.object_ids[:8])) + (", ..." if len(self) > 8 else "")
        notes = f", notes={len(self.notes)}" if self.notes else ""
        return (
            f"{type(self).__name__}(index={self.index}, time_s={self.time_s:.3f}, "
            f"objects={len(self)}, object_ids=({ids}), size_hw={self.original_size_hw}, "
            f"best_score={best_of(self.iou_scores)}{notes})"
        )

    def overlay(
        self, image: Any, *, labels: bool | Mapping[int, str] = False, **drawing: Any
    ) -> NDArray[np.uint8]:
        """Return the frame with its objects drawn on it, each in the colour its id always has.

        Args:
            image: The frame, (H, W, 3), or whatever else a model takes as an image.
            labels: Write id and score at each object; names by id are written too.
            drawing: `boxes_xyxy`, `points_xy`, `alpha`, `outline` of that function.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            InputError: An image that cannot be read or has another size.
        """
        from nexus.ops.draw import overlay_objects

        found = self.object_ids, self.masks, self.iou_scores
        return overlay_objects(as_array(image), *found, labels=labels, **drawing)

    def to_coco(self, image_id: int = 1, category_id: int = 1) -> list[dict[str, Any]]:
        """Return a COCO annotation, with compressed RLE, for each object that is on the frame.

        The id of the object is `track_id`, and what is in the frame nowhere has no annotation.
        """
        every = coco_annotations(self, self.object_ids, image_id, category_id)
        seen = [annotation for annotation in every if annotation["area"]]
        return [
            {**annotation, "id": number, "track_id": annotation["id"]}
            for number, annotation in enumerate(seen, 1)
        ]

    def to_supervision(
        self, *, class_id: int = 0, class_name: str | None = None
    ) -> supervision.Detections:
        """Return the objects on the frame as `supervision.Detections`, which its annotators draw.

        Args:
            class_id: Of all objects.
            class_name: What its `LabelAnnotator` writes; the number of the class if None.

        Returns:
            The objects that are on the frame in their order, their ids in `tracker_id`.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        seen = np.flatnonzero(self.areas)
        ids = [self.object_ids[place] for place in seen]
        return detections(self, seen.tolist(), ids, class_id, class_name)

    @property
    def logits(self) -> NDArray[np.float32]:
        """(K, H, W) float32 mask logits at the size of the frame, worked out when asked for."""
        import torch

        from nexus.ops.resize import resize_logits

        low = torch.from_numpy(self.low_res_logits)
        return np.asarray(resize_logits(low, self.masks.shape[1:]))

    def _alone(self, longest: int | None, **drawing: Any) -> NDArray[np.uint8]:
        step = _step(self.original_size_hw, longest)
        seen = dataclasses.replace(self, masks=self.masks[:, ::step, ::step])
        return seen.overlay(ground(seen.original_size_hw), **drawing)

    def _table(self) -> Table:
        each = zip(
            self.object_ids,
            self.iou_scores,
            self.areas,
            self.boxes_xyxy.astype(int),
            strict=True,
        )
        rows = [(str(number), f"{score:.3f}", *_cells(*of)) for number, score, *of in each]
        return ("object", "score", "area, px", "box, x0 y0 x1 y1"), rows

    def _save_png(self, target: Path) -> Path:
        from nexus.ops.labels import label_palette, lowest_first, paint_labels

        wrong = [number for number in self.object_ids if not 1 <= number <= _LARGEST_LABEL]
        if wrong:
            raise InputError(
                f"expected object ids in 1..{_LARGEST_LABEL} for a label map, got {wrong[0]}",
                hint="a name that ends in .json or .npz takes any id",
            )
        kind = np.uint8 if max(self.object_ids, default=0) < 256 else np.uint16
        order = lowest_first(self.iou_scores)
        layers = ((self.object_ids[place], self.masks[place]) for place in order)
        labels = paint_labels(layers, self.original_size_hw, kind)
        return write_labels(target, labels, label_palette() if kind is np.uint8 else None)

    def _found(self) -> list[dict[str, Any]]:
        return self.to_coco()


@dataclass(frozen=True, eq=False, repr=False)
class PromptedMasks(Masks):
    """The masks of a prompt on an image that may be the first frame of a video.

    Attributes:
        memory: Lets `track` go on from here.
    """

    memory: Any = None


def _step(size_hw: tuple[int, int], longest: int | None) -> int:
    """Return by how much a picture may be thinned out and keep about `longest` pixels a side."""
    return 1 if longest is None else max(1, max(size_hw) // longest)


def _cells(area: int, box: Sequence[int]) -> tuple[str, str]:
    return f"{area:,}", " ".join(map(str, box)) if area else "none"
