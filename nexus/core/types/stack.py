"""What the masks of an image and those of a frame share: pictures, files, other libraries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from nexus.core.files import replacing, write_text
from nexus.core.json_text import dump_json
from nexus.core.packages import optional_module
from nexus.core.types.showing import Shown
from nexus.core.types.values import ByValue, checked_suffix, load_record, save_record
from nexus.ops.boxes import tight_box
from nexus.ops.rle import encode_rle

if TYPE_CHECKING:
    import supervision

    from nexus.ops.polygons import Ring

_SUFFIXES = {
    ".png": "the mask as a picture",
    ".json": "COCO",
    ".npz": "everything, to load again",
}


class MaskStack(ByValue, Shown):
    """What both results share: `masks` (N, H, W) bool, which `np.asarray` gives."""

    masks: NDArray[np.bool_]
    iou_scores: NDArray[np.float32]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.masks.dtype:
            raise ValueError("a mask array cannot change its type without a copy")
        return np.array(self.masks, dtype=dtype, copy=True if copy else None)

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) pixels in each mask."""
        return np.asarray(np.sum(self.masks, axis=(1, 2), dtype=np.int64))

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(N, 4) tight boxes, right and bottom edge exclusive; zeros for an empty mask."""
        return np.array([tight_box(mask) for mask in self.masks], np.float32).reshape(-1, 4)

    @property
    def original_size_hw(self) -> tuple[int, int]:
        """Height and width of the image the masks lie in, pixels."""
        return self.masks.shape[1], self.masks.shape[2]

    def to_polygons(
        self, epsilon_factor: float = 0.01, *, min_iou: float = 0.98
    ) -> list[list[Ring]]:
        """Return the outlines of each mask, in order; an empty mask has none.

        Args:
            epsilon_factor: As in `nexus.ops.polygons.mask_to_polygons`; 0 keeps every corner.
            min_iou: As there.

        Returns:
            For each mask its rings of [x, y] in pixel edges, each outer ring followed by its holes.

        Raises:
            InputError: A value is out of range.
        """
        from nexus.ops.polygons import mask_to_polygons

        return [mask_to_polygons(mask, epsilon_factor, min_iou=min_iou) for mask in self.masks]

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        file_name: str | None = None,
        category: str = "object",
    ) -> Path:
        """Write to a file of the kind its suffix names, whole or not at all; return its path.

        A .png holds what a label map can: of candidates the best, as 0 and 255; of a frame the
        number of the object at each pixel. A .json is a COCO file of the same objects, each whole.
        A .npz holds all there is but the `memory` of tracking, for `load`.

        Args:
            path: A name that ends in .png, .json or .npz.
            file_name: What the COCO file calls the image; `path` without its suffix if None.
            category: What it calls the objects.

        Raises:
            InputError: Another suffix; or ids that a label map cannot hold.
            OSError: The file cannot be written.
        """
        target, suffix = checked_suffix(path, _SUFFIXES)
        if suffix == ".npz":
            return save_record(self, target)
        if suffix == ".png":
            return self._save_png(target)
        (height, width), annotations = self.original_size_hw, self._found()
        image = {"id": 1, "file_name": file_name or target.stem, "height": height, "width": width}
        document = {
            "info": {"description": "made by Nexus"},
            "licenses": [],
            "categories": [{"id": 1, "name": category, "supercategory": ""}],
            "images": [image],
            "annotations": annotations,
        }
        return write_text(target, dump_json(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote under a name that ends in .npz.

        Raises:
            InputError: There is no such file, it is damaged, or it holds something else.
            OSError: It cannot be read.
        """
        return cls(**load_record(cls, path))

    def _save_png(self, target: Path) -> Path:
        """Write what a label map can hold."""
        raise NotImplementedError

    def _found(self) -> list[dict[str, Any]]:
        """Return the COCO annotations of a file of this result alone."""
        raise NotImplementedError


def write_labels(path: Path, labels: NDArray[Any], palette: NDArray[np.uint8] | None) -> Path:
    """Write (H, W) numbers as a PNG, whole or not at all; return its path.

    Raises:
        OSError: The file cannot be written.
    """
    from PIL import Image

    picture = Image.fromarray(labels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, "PNG")
    return path


def best_of(scores: NDArray[np.float32]) -> str:
    """Return the best of some scores as text."""
    return f"{float(np.max(scores)):.3f}" if len(scores) else "none"


def coco_annotations(
    stack: MaskStack, ids: Sequence[int], image_id: int, category_id: int
) -> list[dict[str, Any]]:
    """Return one COCO annotation per mask, numbered by `ids`, with RLE that pycocotools reads."""
    found = zip(ids, stack.masks, stack.areas, stack.boxes_xyxy, stack.iou_scores, strict=True)
    return [
        {
            "id": number,
            "image_id": image_id,
            "category_id": category_id,
            "segmentation": encode_rle(mask),
            "area": int(area),
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
            "iscrowd": 0,
            "score": float(score),
        }
        for number, mask, area, (x0, y0, x1, y1), score in found
    ]


def detections(
    stack: MaskStack, places: Sequence[int], ids: Sequence[int], class_id: int, name: str | None
) -> supervision.Detections:
    """Return some masks of a stack, and the ids they have, as `supervision.Detections`.

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    supervision = optional_module("supervision", "for to_supervision()")
    chosen = np.asarray(places, np.intp)
    return supervision.Detections(
        xyxy=stack.boxes_xyxy[chosen],
        mask=stack.masks[chosen],
        confidence=np.asarray(stack.iou_scores, np.float32)[chosen],
        class_id=np.full(len(chosen), class_id, np.int64),
        tracker_id=np.asarray(ids, np.int64).reshape(-1),
        data={} if name is None else {"class_name": np.full(len(chosen), name)},
    )
