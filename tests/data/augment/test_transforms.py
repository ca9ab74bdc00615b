from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.data.augment.geometry import Warp, shift
from nexus.data.augment.transforms import (
    AugmentPrompts,
    ColorJitter,
    Compose,
    Draft,
    GeometricTransform,
    RandomCrop,
    RandomFlip,
    RandomRotate,
    RandomScale,
    Sample,
    apply,
)
from nexus.ops.polygons import polygons_to_mask

SIZE_HW = (96, 128)
SPEC = [
    RandomFlip(prob=0.5),
    RandomRotate(degrees=15),
    RandomScale(scale_range=(0.8, 1.2)),
    ColorJitter(brightness=0.2, contrast=0.2),
    AugmentPrompts(),
]
LISTS = {
    "spec": SPEC,
    "turned": [RandomRotate(180), AugmentPrompts()],
    "scaled": [RandomScale((0.4, 2.5)), AugmentPrompts()],
    "cropped": [RandomCrop((0.4, 0.9)), RandomFlip(0.5, "both"), AugmentPrompts()],
    "all": [RandomRotate(30), RandomCrop((0.6, 1.0)), *SPEC],
}


def ring(kind: str, centre: np.ndarray, radius: float, turn: float) -> np.ndarray:
    """Return the corners of a shape, x and y in pixel edges."""
    if kind == "disc":
        angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    else:
        angles = turn + np.arange(4 if kind == "rectangle" else 3) * 2 * np.pi / (
            4 if kind == "rectangle" else 3
        )
    stretch = (1.0, 0.7) if kind == "rectangle" else (1.0, 1.0)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1) * stretch


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def moved_ring(corners: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return corners @ matrix[:2, :2].T + matrix[:2, 2]


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["disc", "rectangle", "triangle"]),
    x=st.floats(40, 88),
    y=st.floats(40, 56),
    radius=st.floats(18, 36),
    turn=st.floats(0, 6.3),
    seed=st.integers(0, 2**32 - 1),
)
def test_moving_a_drawing_is_drawing_what_moved(
    name: str, kind: str, x: float, y: float, radius: float, turn: float, seed: int
) -> None:
    """Masks, boxes and points agree with the moved outline, drawn anew, within a source pixel.

    Every pixel that differs is at the outline, and there are no more of them than if the outline
    were off by 0.75 source pixels on average.
    """
    corners = ring(kind, np.array([x, y]), radius, turn)
    mask = polygons_to_mask([corners], *SIZE_HW)
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(mask)
    picks = rng.integers(len(rows), size=6)
    clicks = np.stack([columns[picks], rows[picks]], 1)
    sample = Sample(noise(), mask[None], [(0, 0, 1, 1)], [clicks])
    result = apply(LISTS[name], sample, rng)
    height, width = result.size_hw
    drawn = polygons_to_mask([moved_ring(corners, result.matrix)], height, width)
    if not len(result):
        assert drawn.sum() < 40
        return

    (moved,), (box,), (points,) = result.masks, result.boxes_xyxy, result.points_xy
    scale = max(1.0, float(np.sqrt(abs(np.linalg.det(result.matrix)))))
    # What lay outside the source image is background in a moved mask.
    seen = polygons_to_mask(
        [moved_ring(np.array([(0, 0), (128, 0), (128, 96), (0, 96)]), result.matrix)], height, width
    )
    seen = ndimage.binary_erosion(seen, iterations=2, border_value=1)
    differs = (moved != drawn) & seen
    rim = np.maximum(*(ndimage.distance_transform_edt(np.pad(m, 1)) for m in (drawn, ~drawn)))
    rim = rim[1:-1, 1:-1]

    assert not differs.any() or rim[differs].max() <= 2.25 * scale
    outline = moved_ring(corners, result.matrix)
    length = np.hypot(*(outline - np.roll(outline, 1, axis=0)).T).sum()
    assert differs.sum() <= 0.75 * scale * length

    rows, columns = np.nonzero(moved)
    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    spots = np.floor(points + 0.5).astype(int)
    assert moved[spots[:, 1], spots[:, 0]].all()
    exact = moved_ring(clicks + 0.5, result.matrix) - 0.5
    inside = ((exact > 0) & (exact < (width - 1, height - 1))).all(1)
    pixels = np.argwhere(moved)[:, ::-1]
    reach = 1 + np.sqrt(abs(np.linalg.det(result.matrix)))
    for spot in exact[inside]:
        # The tip of a corner may be gone, and a click on it with it.
        if np.hypot(*(pixels - spot).T).min() < reach - 0.01:
            assert np.hypot(*(points - spot).T).min() <= reach


@pytest.mark.parametrize("kind", ["disc", "rectangle", "triangle"])
def test_large_shapes_keep_their_form(kind: str) -> None:
    """A shape of 80 pixels' radius or more has an IoU of 0.98 with its drawing.

    On average their centres agree, which they would not if half a pixel were lost somewhere.
    """
    rng = np.random.default_rng(0)
    size_hw, offsets = (320, 400), []
    for _ in range(12):
        corners = ring(kind, rng.uniform(150, 170, 2) + (40, 0), rng.uniform(80, 110), rng.random())
        mask = polygons_to_mask([corners], *size_hw)
        result = apply(SPEC[:-1], Sample(np.zeros((*size_hw, 3), np.uint8), mask[None]), rng)
        drawn = polygons_to_mask([moved_ring(corners, result.matrix)], *size_hw)
        both, either = (result.masks[0] & drawn).sum(), (result.masks[0] | drawn).sum()
        offsets.append(np.argwhere(result.masks[0]).mean(0) - np.argwhere(drawn).mean(0))

        assert both / either >= 0.98
    assert np.abs(np.mean(offsets, 0)).max() < 0.2


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "both"])
def test_flips_move_everything_exactly(direction: Any) -> None:
    """Mirrored image, mask, box and point are those of NumPy's flip, to the pixel."""
    image = noise()
    mask = polygons_to_mask([[(10, 20), (60, 30), (30, 80)]], *SIZE_HW)
    sample = Sample(image, mask[None], [(10, 20, 60, 80)], [[(30, 40)]])
    result = apply([RandomFlip(1.0, direction), AugmentPrompts()], sample, np.random.default_rng(0))
    axes = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}[direction]
    ((x, y),) = result.points_xy[0].astype(int)

    assert np.array_equal(result.image, np.flip(image, axes))
    assert np.array_equal(result.masks[0], np.flip(mask, axes))
    assert np.array_equal(result.image[y, x], image[40, 30])


def test_a_still_list_changes_nothing() -> None:
    """Steps that draw no change give image, masks, boxes and points back to the last bit."""
    still = [
        RandomFlip(0.0),
        RandomRotate(0),
        RandomScale((1, 1)),
        RandomCrop((1, 1)),
        ColorJitter(0, 0),
        AugmentPrompts(),
    ]
    mask = polygons_to_mask([[(10, 20), (60, 20), (60, 80), (10, 80)]], *SIZE_HW)
    sample = Sample(noise(), mask[None], [(10, 20, 60, 80)], [[(30.25, 40.5), (1, 127.5)[::-1]]])
    result = apply(still, sample, np.random.default_rng(0))

    assert np.array_equal(result.image, sample.image)
    assert np.array_equal(result.masks, sample.masks)
    assert np.array_equal(result.boxes_xyxy, sample.boxes_xyxy)
    assert np.array_equal(result.points_xy[0], sample.points_xy[0])
    assert np.array_equal(result.matrix, np.eye(3))


def test_colours_move_nothing() -> None:
    """A list of colours alone leaves masks, boxes and points as they are, loose boxes too."""
    mask = polygons_to_mask([[(10, 20), (60, 20), (60, 80)]], *SIZE_HW)
    sample = Sample(noise(), mask[None], [(3, 4, 70, 90)], [[(100, 2)]])
    result = apply([ColorJitter(0.5, 0.5)], sample, np.random.default_rng(0))

    assert not np.array_equal(result.image, sample.image)
    assert result.masks is sample.masks
    assert np.array_equal(result.boxes_xyxy, sample.boxes_xyxy)
    assert result.points_xy[0].tolist() == [[100, 2]]
    assert result.matrix.tolist() == np.eye(3).tolist()


def test_equal_seeds_give_equal_samples() -> None:
    """All chance comes from the generator, and the sample passed in is not changed."""
    image = noise()
    mask = polygons_to_mask([[(30, 20), (90, 30), (50, 80)]], *SIZE_HW)
    sample = Sample(image.copy(), mask[None].copy(), [(30, 20, 90, 80)])
    results = [apply(SPEC, sample, np.random.default_rng(seed)) for seed in (1, 1, 2)]

    assert np.array_equal(results[0].image, results[1].image)
    assert np.array_equal(results[0].masks, results[1].masks)
    assert not np.array_equal(results[0].image, results[2].image)
    assert np.array_equal(sample.image, image)


def test_steps_are_interpolated_once() -> None:
    """A turn and its opposite give the image back, which interpolating twice would blur."""

    class Turn(GeometricTransform):
        def __init__(self, columns: float) -> None:
            self.columns = columns

        def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
            return Warp(shift(self.columns, 0), draft.size_hw)

    sample = Sample(noise())
    result = apply([Turn(0.5), Turn(-0.5)], sample, np.random.default_rng(0))

    assert np.array_equal(result.image, sample.image)


@pytest.mark.parametrize("parts", [{"boxes_xyxy": [(1, 2, 9, 9)]}, {"points_xy": [[(1, 2)]]}])
def test_prompts_do_not_stay_behind(parts: dict[str, Any]) -> None:
    """A list that moves pixels needs AugmentPrompts where there are boxes or points."""
    still = [RandomFlip(0.0)]

    with pytest.raises(InputError, match="expected AugmentPrompts for a sample with boxes or p"):
        apply(still, Sample(noise(), **parts), np.random.default_rng(0))
    assert apply(still, Sample(noise()), np.random.default_rng(0)).size_hw == SIZE_HW


def test_nothing_moves_after_the_prompts() -> None:
    """A step that moves pixels after AugmentPrompts is named."""
    with pytest.raises(InputError, match=r"got RandomRotate after it\nhint: make AugmentPrompts"):
        Compose([RandomFlip(), AugmentPrompts(), ColorJitter(), RandomRotate()])


def test_only_transforms_are_listed() -> None:
    """A class in place of an object of it is noticed, and so is a least area of 0."""
    with pytest.raises(InputError, match=r"expected transforms, got <class .*\nhint: an entry is"):
        Compose([RandomFlip])  # type: ignore[list-item]
    with pytest.raises(InputError, match="expected min_area_px of at least 1, got 0"):
        Compose([], min_area_px=0)


def test_slivers_are_dropped_as_asked() -> None:
    """The least area reaches the masks."""
    mask = polygons_to_mask([[(30, 20), (50, 20), (50, 40), (30, 40)]], *SIZE_HW)
    transforms = Compose([RandomFlip(1.0)], min_area_px=401)

    assert len(transforms(Sample(noise(), mask[None]), np.random.default_rng(0))) == 0
    assert len(apply([RandomFlip(1.0)], Sample(noise(), mask[None]), np.random.default_rng(0))) == 1
