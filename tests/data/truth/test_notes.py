from __future__ import annotations

import numpy as np
import pytest

from nexus.core.errors import NexusWarning
from nexus.data.truth.labelled import LabelledImage, Truth, Unpaired
from nexus.data.truth.notes import counted_masks, lines_of, noticed_in, warn_of_masks


def image(masks: int = 0) -> LabelledImage:
    """Return an image of a set with so many masks left out."""
    return LabelledImage("a", lambda: np.zeros((2, 2, 3)), list, unpaired=Unpaired(1, masks))


def test_masks_are_counted_by_set() -> None:
    """Empty masks, notes and what has no partner stand in the counts and in the lines."""
    truth = Truth(1, np.ones((2, 2), bool), (0, 0, 2, 2), notes=("cut",))
    seen = [noticed_in([truth, truth]), noticed_in([])]
    sets = counted_masks([("s", image(2), seen[0]), ("s", image(2), seen[1]), ("t", image(), None)])

    assert sets == {
        "s": {
            "images": 2,
            "without_objects": 1,
            "images_without_mask": 1,
            "masks_without_image": 2,
            "notes": {"cut": 1},
        }
    }
    assert lines_of(sets["s"]) == [
        "no object in 1 of 2 masks",
        "1 of 2 masks: cut",
        "1 image without mask, left out",
        "2 masks without image, left out",
    ]
    with pytest.warns(NexusWarning, match="^s: 1 of 2 masks: cut$") as caught:
        warn_of_masks(sets)
    assert len(caught) == 1


def test_a_set_without_any_object_is_told() -> None:
    """Then nothing was measured, and a warning says it."""
    sets = counted_masks([("s", image(), noticed_in([]))])

    with pytest.warns(NexusWarning, match="^s: no object in any of 1 mask$"):
        warn_of_masks(sets)
