"""What was noticed about the masks of a set, for reports: counted, and said once."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from nexus.core.errors import NexusWarning
from nexus.data.truth.labelled import LabelledImage, LabelledVideo, Truth


def noticed_in(truths: Iterable[Truth]) -> dict[str, Any]:
    """Return what is to be counted of an image: `objects`, and `notes` on its mask."""
    found = list(truths)
    return {"objects": len(found), "notes": sorted({note for each in found for note in each.notes})}


def counted_masks(
    noticed: Iterable[tuple[str, LabelledImage | LabelledVideo, Mapping[str, Any] | None]],
) -> dict[str, dict[str, Any]]:
    """Return by set what was noticed in its images.

    Args:
        noticed: Of each image its set, itself, and what `noticed_in` says of it. Videos, and images
            of which nothing is known, are left out.

    Returns:
        By set the counts `images`, `without_objects` (images whose mask is empty),
        `images_without_mask` and `masks_without_image` (left out), and `notes`: by note the images
        with it.
    """
    sets: dict[str, dict[str, Any]] = {}
    for title, image, seen in noticed:
        if seen is None or not isinstance(image, LabelledImage):
            continue
        counts = sets.setdefault(
            title,
            {
                "images": 0,
                "without_objects": 0,
                "images_without_mask": image.unpaired.images,
                "masks_without_image": image.unpaired.masks,
                "notes": Counter(),
            },
        )
        counts["images"] += 1
        counts["without_objects"] += seen["objects"] == 0
        counts["notes"].update(seen["notes"])
    return {title: {**counts, "notes": dict(counts["notes"])} for title, counts in sets.items()}


def lines_of(counts: Mapping[str, Any]) -> list[str]:
    """Return what a report says of a set, by its counts from `counted_masks`."""
    images, empty = counts["images"], counts["without_objects"]
    lines = [f"no object in any of {_many(images, 'mask')}"] if images == empty else []
    if 0 < empty < images:
        lines.append(f"no object in {empty} of {_many(images, 'mask')}")
    lines += [
        f"{count} of {_many(images, 'mask')}: {note}" for note, count in counts["notes"].items()
    ]
    for what, lack in (("image", "mask"), ("mask", "image")):
        count = counts[f"{what}s_without_{lack}"]
        lines += [f"{_many(count, what)} without {lack}, left out"] if count else []
    return lines


def warn_of_masks(sets: Mapping[str, Mapping[str, Any]]) -> None:
    """Warn of sets without any object, and of masks that could not be read as they are.

    What has no partner was told when the folder was opened, and an empty mask among others is
    nothing wrong.
    """
    for title, counts in sets.items():
        for line in lines_of({**counts, "images_without_mask": 0, "masks_without_image": 0}):
            if not line.startswith("no object in ") or line.startswith("no object in any"):
                warnings.warn(f"{title}: {line}", NexusWarning, stacklevel=3)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
