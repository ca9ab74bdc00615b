"""The masks a model gives for one prompt, and those of the objects tracked in a video's frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.packages import optional_module
from nexus.ops.boxes import tight_box
from nexus.ops.rle import encode_rle

if TYPE_CHECKING:
    import supervision


class MaskStack:
    """What both results share: `masks` (N, H, W) bool, which `np.asarray` gives."""

    masks: NDArray[np.bool_]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.masks.dtype:
            raise ValueError("a mask array cannot change its type without a copy")
        return np.array(self.masks, dtype=dtype, copy=True if copy else None)

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) pixels in each mask."""
        return np.asarray(np.sum(self.masks, axis=(1, 2), dtype=np.int64))


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

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(M, 4) tight boxes, right and bottom edge exclusive; zeros for an empty mask."""
        return np.array([tight_box(mask) for mask in self.masks], np.float32).reshape(-1, 4)

    def to_coco(self, image_id: int = 1, category_id: int = 1) -> list[dict[str, Any]]:
        """Return one COCO annotation per candidate, with compressed RLE that pycocotools reads.

        The identifiers of image and category are put in each annotation.
        """
        return [
            {
                "id": index + 1,
                "image_id": image_id,
                "category_id": category_id,
                "segmentation": encode_rle(mask),
                "area": int(area),
                "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                "iscrowd": 0,
                "score": float(score),
            }
            for index, (mask, area, (x0, y0, x1, y1), score) in enumerate(
                zip(self.masks, self.areas, self.boxes_xyxy, self.iou_scores, strict=True)
            )
        ]

    def to_supervision(self) -> supervision.Detections:
        """Return the candidates as `supervision.Detections`.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        supervision = optional_module("supervision", "for to_supervision()")
        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            mask=self.masks,
            confidence=np.asarray(self.iou_scores, np.float32),
        )


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

    @property
    def logits(self) -> NDArray[np.float32]:
        """(K, H, W) float32 mask logits at the size of the frame, worked out when asked for."""
        import torch

        from nexus.ops.resize import resize_logits

        low = torch.from_numpy(self.low_res_logits)
        return np.asarray(resize_logits(low, self.masks.shape[1:]))


@dataclass(frozen=True, eq=False)
class PromptedMasks(Masks):
    """The masks of a prompt on an image that may be the first frame of a video.

    Attributes:
        memory: Lets `track` go on from here.
    """

    memory: Any = None
