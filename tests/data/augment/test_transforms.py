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


NOISE_HW = (40, 60)
NOISE = np.random.default_rng(0).integers(60, 180, (*NOISE_HW, 3), dtype=np.uint8)


def draft(**parts: Any) -> Draft:
    return Draft(Sample(NOISE, **parts), Warp.identity(NOISE_HW))


def matrices(step: Any, count: int = 400, **parts: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([step.draw(draft(**parts), rng).matrix for _ in range(count)])


def test_flips_come_as_often_as_asked() -> None:
    """A quarter of the images is mirrored, in the direction asked for alone."""
    flipped = matrices(RandomFlip(0.25), 1000)
    both = matrices(RandomFlip(0.5, "both"), 1000)

    assert (flipped[:, 0, 0] == -1).mean() == pytest.approx(0.25, abs=0.05)
    assert (flipped[:, 1, 1] == 1).all()
    assert ((both[:, 0, 0] == -1) & (both[:, 1, 1] == -1)).mean() == pytest.approx(0.25, abs=0.05)
    assert (matrices(RandomFlip(1.0, "vertical"))[:, 0, 0] == 1).all()


def test_turns_are_about_the_centre() -> None:
    """Angles fill the range, and the centre of the image stays where it is."""
    turned = matrices(RandomRotate(15))
    degrees = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))

    assert -15 <= degrees.min() < -14
    assert 14 < degrees.max() <= 15
    assert np.allclose(turned @ (30, 20, 1), (30, 20, 1))


def test_factors_are_about_the_centre() -> None:
    """Factors fill the range, alike for both axes, and the centre stays."""
    scaled = matrices(RandomScale((0.8, 1.2)))
    factors = scaled[:, 0, 0]

    assert 0.8 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2
    assert np.array_equal(factors, scaled[:, 1, 1])
    assert np.allclose(scaled @ (30, 20, 1), (30, 20, 1))


def test_windows_are_within_the_image() -> None:
    """A window has the image's shape, lies in it at whole pixels, and reaches every edge."""
    rng = np.random.default_rng(0)
    warps = [RandomCrop((0.5, 0.8)).draw(draft(), rng) for _ in range(400)]
    x, y = (-np.array([warp.matrix[axis, 2] for warp in warps]) for axis in (0, 1))
    heights, widths = np.array([warp.size_hw for warp in warps]).T

    assert np.array_equal(x, x.round())
    assert (min(x), min(y), max(x + widths), max(y + heights)) == (0, 0, 60, 40)
    assert np.abs(heights / 40 - widths / 60).max() < 0.02
    assert (heights.min(), heights.max()) == (20, 32)


@pytest.mark.parametrize("kind", ["masks", "boxes_xyxy", "points_xy"])
def test_windows_hold_a_piece_of_an_object(kind: str) -> None:
    """Some pixel of an object is in every window, wherever the image was moved before."""
    mask = np.zeros((1, *NOISE_HW), np.bool_)
    mask[0, 2:5, 50:53] = True
    parts = {"masks": mask, "boxes_xyxy": [(50, 2, 53, 5)], "points_xy": [[(51, 3)]]}
    sample = Sample(NOISE, **{kind: parts[kind]})
    moved = Draft(sample, Warp(shift(-20, 10), NOISE_HW))
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(200):
        warp = RandomCrop((0.2, 0.3)).draw(moved, rng)
        spots = moved.warp.then(warp).points([(x, y) for x in (50, 51, 52) for y in (2, 3, 4)])
        places.add(tuple(warp.matrix[:2, 2]))

        assert ((spots >= 0) & (spots < warp.size_hw[::-1])).all(1).any()
    assert len(places) > 50


def test_windows_are_anywhere_without_objects() -> None:
    """Nothing to hold, an object that vanished, or none wanted: any window will do."""
    mask = np.zeros((1, *NOISE_HW), np.bool_)
    wanted = {"masks": mask.copy()}
    wanted["masks"][0, 0, 0] = True
    gone = draft(points_xy=[[]]).anchor_xy(np.random.default_rng(0))
    free = matrices(RandomCrop((0.3, 0.3), on_object=False), **wanted)

    assert draft().anchor_xy(np.random.default_rng(0)) is None
    assert draft(masks=mask).anchor_xy(np.random.default_rng(0)) is None
    assert gone is None
    assert free[:, 0, 2].min() == -42
    assert (matrices(RandomCrop((0.3, 0.3)), **wanted)[:, :2, 2] == 0).all()


def test_an_object_that_left_holds_no_window() -> None:
    """A window is drawn even where the chosen object is outside the image by now."""
    mask = np.zeros((1, *NOISE_HW), np.bool_)
    mask[0, :2, :2] = True
    away = Draft(Sample(NOISE, mask), Warp(shift(-30, 0), NOISE_HW))
    warp = RandomCrop((0.5, 0.5)).draw(away, np.random.default_rng(0))

    assert warp.size_hw == (20, 30)
    assert -30 <= warp.matrix[0, 2] <= 0


def test_brightness_multiplies() -> None:
    """Without contrast every value is multiplied by one factor within the range."""
    rng = np.random.default_rng(0)
    image = NOISE.astype(np.float32) / 255
    factors = []
    for _ in range(200):
        ratio = ColorJitter(0.2, 0).recolour(image, rng) / image
        factors.append(ratio.mean())

        assert np.ptp(ratio) < 1e-5
    assert 0.8 <= min(factors) < 0.82
    assert 1.18 < max(factors) <= 1.2001


def test_contrast_keeps_the_mean_brightness() -> None:
    """Without brightness values move from or to the mean of 0.299 R + 0.587 G + 0.114 B."""
    rng = np.random.default_rng(0)
    image = NOISE.astype(np.float64) / 255
    mean = (image @ (0.299, 0.587, 0.114)).mean()
    spreads = []
    for _ in range(200):
        changed = ColorJitter(0, 0.3).recolour(image, rng)
        spreads.append(float((changed - mean).std() / (image - mean).std()))

        assert np.allclose((changed - mean) / spreads[-1], image - mean)
    assert 0.7 <= min(spreads) < 0.73
    assert 1.27 < max(spreads) <= 1.3


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_colours_stay_in_the_range_of_the_type(dtype: Any, top: int) -> None:
    """Each type is changed as the real numbers it stands for, cut at black and white."""
    shares = np.linspace(0, 1, 48).reshape(4, 4, 3)
    image = (shares * top).astype(dtype)
    changed = ColorJitter(1.0, 1.0).recolour(image, np.random.default_rng(5))
    expected = ColorJitter(1.0, 1.0).recolour(image / top, np.random.default_rng(5))

    assert changed.dtype == dtype
    assert np.abs(changed / top - expected).max() <= max(0.5 / top, 1e-6) + 1e-9
    assert (changed == top).sum() > 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip(1.5), r"expected prob in \[0, 1\], got 1.5"),
        (lambda: RandomFlip(0.5, "left"), "horizontal, vertical, both, got 'left'"),
        (lambda: RandomRotate(-3), r"expected degrees in \[0, 180\], got -3"),
        (lambda: RandomScale((1.2, 0.8)), r"the lower first, got \(1.2, 0.8\)"),
        (lambda: RandomScale((0, 1)), "expected a scale_range above 0"),
        (lambda: RandomCrop((0.5, 1.5)), r"expected a share_range in \(0, 1\]"),
        (lambda: ColorJitter(2), r"expected brightness in \[0, 1\], got 2"),
        (lambda: ColorJitter(0.2, -1), r"expected contrast in \[0, 1\], got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, message: str) -> None:
    """Each step says which number it takes."""
    with pytest.raises(InputError, match=message):
        make()
