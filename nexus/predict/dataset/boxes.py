"""Boxes in place of a grid of points: one mask for each box that a file, or a caller, gives."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from nexus.core.errors import InputError, NexusWarning, PromptError
from nexus.core.json_text import dump_json
from nexus.core.types import Prompt
from nexus.data.formats.dataset import InputFile
from nexus.data.prompt_files import (
    DEFAULT_CATEGORY,
    ImagePrompt,
    ImagePrompts,
    PromptsOfImage,
    read_image_prompts,
)
from nexus.models.policy import Policy

BoxesLike: TypeAlias = "str | os.PathLike[str] | ImagePrompts | Mapping[str, ArrayLike]"
"""A CSV or COCO file, what `nexus.data.prompt_files.read_image_prompts` made of one, or (K, 4)
boxes by the name of an image, x0, y0, x1, y1 in its pixels, right and bottom edges exclusive."""

OPEN_SETTINGS: Mapping[str, Any] = {
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
"""Settings of a generator with which every box has its mask, whatever its score and neighbours."""

GRID_SETTINGS = frozenset(
    ("points_per_side", "point_grids", "multimask_output", "crop_n_layers", "crop_overlap_ratio")
    + ("crop_n_points_downscale_factor",)
)
"""Settings of a generator that say nothing where boxes are given."""


@dataclass(frozen=True)
class BoxedImages:
    """The images that boxes are for, and what was found of the others.

    Attributes:
        images: In the order given.
        prompts: Of each of them.
        digest: Of all boxes, as they were given.
        categories: What the boxes are, each once; `DEFAULT_CATEGORY` for those without a name.
        without: Images that no boxes are for, by `file_name`.
        unused: Names that fit no image.
    """

    images: list[InputFile]
    prompts: list[PromptsOfImage]
    digest: str
    categories: tuple[str, ...]
    without: list[str]
    unused: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return what a report says of them."""
        return {"images_without_boxes": self.without, "boxes_without_image": self.unused}

    def warn(self) -> None:
        """Warn of images without boxes, and of boxes without an image."""
        for what, names in (
            ("without boxes left out", self.without),
            ("of the boxes not among those given", self.unused),
        ):
            if names:
                shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
                noun = "image" if len(names) == 1 else "images"
                warnings.warn(f"{len(names)} {noun} {what}: {shown}", NexusWarning, stacklevel=4)


def boxes_of_images(boxes: BoxesLike, images: Sequence[InputFile]) -> BoxedImages:
    """Pair images with their boxes.

    Raises:
        InputError: A file that cannot be read, names that fit no image or two, or an object that
            is given by points.
    """
    given = _given(boxes)
    found, unused = given.for_images([image.path for image in images])
    digest = _digest(given)  # which also refuses points, before any image is read
    pairs = [pair for pair in zip(images, found, strict=True) if pair[1] is not None]
    return BoxedImages(
        images=[image for image, _ in pairs],
        prompts=[prompts for _, prompts in pairs if prompts is not None],
        digest=digest,
        categories=given.categories,
        without=[image.file_name for image, own in zip(images, found, strict=True) if own is None],
        unused=unused,
    )


def categories_with(boxes: BoxedImages, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the categories of a dataset of boxes; those of boxes without a name come first.

    Args:
        boxes: With names of their own, or without.
        wanted: One name, which the boxes without any get, or all.

    Raises:
        InputError: A category is not wanted, or one is wanted that no box has.
    """
    named = tuple(name for name in boxes.categories if name != DEFAULT_CATEGORY)
    unnamed = len(named) < len(boxes.categories)
    if wanted == (DEFAULT_CATEGORY,) and not unnamed:
        return named
    if len(wanted) == 1 and unnamed:
        return (*wanted, *(name for name in named if name not in wanted))
    if set(named) <= set(wanted):
        return wanted
    raise InputError(
        f"expected the categories of the boxes, {', '.join(named)}, got {', '.join(wanted)}",
        hint="leave the category away: boxes that have one keep it",
    )


def records_of_boxes(
    generate: Callable[..., Sequence[Mapping[str, Any]]], image: Any, prompts: PromptsOfImage
) -> list[dict[str, Any]]:
    """Return the record of each box's mask, in the order of the boxes, with its `category`.

    `generate` is that of a generator, given `boxes_xyxy`.

    Raises:
        PromptError: The boxes are for an image of another size, or one does not touch it.
        InputError: A record does not say which box it is of.
    """
    prompts.check((image.shape[0], image.shape[1]))
    if not prompts.objects:
        return []
    boxes_xyxy = prompts.boxes_xyxy
    # Alike boxes have alike masks, so that it does not matter which of them takes which.
    places: dict[tuple[float, ...], deque[int]] = defaultdict(deque)
    for place, box in enumerate(boxes_xyxy.tolist()):
        places[tuple(box)].append(place)
    found: dict[int, dict[str, Any]] = {}
    for record in generate(image, boxes_xyxy=boxes_xyxy):
        box = record.get("box_prompt")
        key = tuple(np.asarray(() if box is None else box, np.float32).tolist())
        if not places.get(key):
            raise InputError(
                f"expected records that name a box of {prompts.name!r} as box_prompt, got {box!r}"
            )
        place = places[key].popleft()
        category = prompts.objects[place].category
        named = {} if category == DEFAULT_CATEGORY else {"category": category}
        found[place] = {**record, **named}
    return [found[place] for place in sorted(found)]


def check_prompted(policy: Policy | None, name: str, boxes_given: bool, hint: str) -> None:
    """Refuse to look for masks by points with a model that knows boxes alone.

    Args:
        policy: Of the model; None if there is no telling.
        name: Of the model.
        boxes_given: Boxes are the prompts.
        hint: How to give boxes.

    Raises:
        InputError: It knows boxes alone, and none are given.
    """
    if policy is not None and policy.box_only and not boxes_given:
        raise InputError(
            f"expected boxes, or a model that answers points, to find masks with, got {name!r}, "
            "which was trained on boxes alone",
            hint=hint,
        )


def _given(boxes: BoxesLike) -> ImagePrompts:
    if isinstance(boxes, ImagePrompts):
        return boxes
    if not isinstance(boxes, Mapping):
        return read_image_prompts(boxes)
    if not boxes:
        raise InputError("expected boxes of at least one image, got none")
    images = {}
    for name, rows in boxes.items():
        try:
            numbers = np.asarray(rows, np.float32)
            if numbers.size and (numbers.ndim != 2 or numbers.shape[1] != 4):
                raise ValueError(f"shape {numbers.shape}")
        except (ValueError, TypeError) as error:
            raise PromptError(
                f"expected boxes of shape (K, 4) for {name!r}, got {error!s:.120}"
            ) from error
        objects = [ImagePrompt(n, Prompt(box=box)) for n, box in enumerate(numbers.tolist(), 1)]
        images[name] = PromptsOfImage(name, tuple(objects))
    return ImagePrompts(Path("boxes"), images)


def _digest(given: ImagePrompts) -> str:
    """Return a digest of all boxes and what they are, whatever file they came from."""
    plain = [
        [name, prompts.size_hw, prompts.boxes_xyxy.tolist(), [o.category for o in prompts.objects]]
        for name, prompts in sorted(given.images.items())
    ]
    return hashlib.sha256(dump_json(plain).encode()).hexdigest()[:16]
