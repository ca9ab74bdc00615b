from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from nexus.core.errors import ImageError
from nexus.data.images.loading import read_mask
from nexus.data.images.masks import ALPHA, BORDER, COLOUR, GREY, PALETTE, read_label_map

REAL = ("kvasir_seg", "busi_us", "ph2_skin", "davis345_interactive", "mri_prostate")
LABELLED = ("dsb2018_nuclei", "coco_sample", "acdc_mri", "cxr_covid", "pennfudan_sample")


def encoded(values: Any, kind: str = "PNG", **options: Any) -> bytes:
    """Return an array as the bytes of a picture."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(stream, kind, **options)
    return stream.getvalue()


def discs(*levels: int, side_px: int = 96) -> np.ndarray:
    """Draw a disc of each level in a row, on 0."""
    drawn = np.zeros((side_px, side_px * len(levels)), np.uint8)
    y, x = np.mgrid[:side_px, : drawn.shape[1]]
    for place, level in enumerate(levels):
        centre = side_px / 2 + place * side_px
        drawn[(x - centre) ** 2 + (y - side_px / 2) ** 2 < (side_px / 3) ** 2] = level
    return drawn


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the intersection over union of what is not 0."""
    return float(((found > 0) & (truth > 0)).sum() / ((found > 0) | (truth > 0)).sum())


DISC = discs(255)
SOFT = ndimage.gaussian_filter(DISC, 1)
EMPTY = np.zeros_like(DISC)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_mask_is_one_object(kind: str, quality: int) -> None:
    """Two objects of one level stay one, as in a PNG, and the note tells of the cut."""
    truth = discs(255, 255)
    found = read_label_map(encoded(truth, kind, quality=quality))

    assert np.unique(found.labels).tolist() == [0, 255]
    assert overlap(found.labels, truth) > 0.99
    assert found.notes == (GREY,)


@pytest.mark.parametrize(
    ("stored", "notes", "level"),
    [
        pytest.param(encoded(DISC // 255), (), 1, id="0 and 1"),
        pytest.param(encoded(DISC // 255 * 128), (), 128, id="0 and 128"),
        pytest.param(encoded(DISC // 255 * 254), (), 254, id="0 and 254"),
        pytest.param(encoded(DISC // 255 * np.uint8(128) + 127), (GREY,), 255, id="127 and 255"),
        pytest.param(encoded(DISC.astype(np.uint16) * 257), (), 65535, id="16 bits"),
        pytest.param(encoded(DISC > 0), (), 1, id="1 bit"),
        pytest.param(encoded(SOFT), (GREY,), 255, id="smooth"),
        pytest.param(encoded(SOFT.astype(np.uint16) * 257), (GREY,), 65535, id="smooth, 16 bits"),
        pytest.param(encoded(SOFT, "GIF"), (GREY,), 255, id="smooth GIF"),
        pytest.param(encoded(np.dstack([DISC] * 3)), (), 255, id="grey RGB"),
        pytest.param(encoded(np.dstack([SOFT] * 3)), (GREY,), 255, id="smooth RGB"),
        pytest.param(encoded(np.dstack([DISC] * 3), "JPEG"), (GREY,), 255, id="RGB JPEG"),
        pytest.param(encoded(np.dstack([DISC] * 3 + [EMPTY + 255])), (), 255, id="opaque RGBA"),
        pytest.param(encoded(np.dstack([EMPTY + 255] * 3 + [DISC])), (ALPHA,), 255, id="alpha"),
        pytest.param(encoded(np.dstack([EMPTY] * 3 + [DISC])), (ALPHA,), 255, id="black, alpha"),
        pytest.param(encoded(np.dstack([DISC, EMPTY, EMPTY])), (COLOUR,), 255, id="red"),
        pytest.param(encoded(np.dstack([SOFT, EMPTY, EMPTY])), (COLOUR,), 255, id="smooth red"),
        pytest.param(encoded(DISC, "WEBP", lossless=True), (), 255, id="lossless WebP"),
        pytest.param(encoded(DISC, "JPEG2000"), (), 255, id="lossless JPEG 2000"),
        pytest.param(encoded(DISC, "TIFF", compression="jpeg"), (GREY,), 255, id="JPEG in TIFF"),
        pytest.param(encoded(DISC.astype(np.int32), "TIFF"), (), 255, id="32-bit TIFF"),
        pytest.param(
            encoded(Image.open(io.BytesIO(encoded(DISC, "JPEG", quality=95)))), (GREY,), 255,
            id="PNG of a JPEG",
        ),
    ],
)  # fmt: skip
def test_every_way_to_store_a_mask_is_one_object(
    stored: bytes, notes: tuple[str, ...], level: int
) -> None:
    """The object is what is bright; whatever had to be done for it is noted."""
    found = read_label_map(stored)

    assert np.unique(found.labels).tolist() == [0, level]
    assert overlap(found.labels, DISC) > 0.98
    assert found.notes == notes


def test_white_is_the_object_whatever_its_place_in_a_palette() -> None:
    """Programs that reduce colours put white first: its number is 0, and yet it is the object."""
    stream = io.BytesIO()
    Image.fromarray(DISC).convert("RGB").quantize(2).save(stream, "PNG")
    found = read_label_map(stream.getvalue())

    np.testing.assert_array_equal(found.labels > 0, DISC > 0)
    assert found.notes == (PALETTE,)


def test_an_object_around_everything_is_noted() -> None:
    """An inverted mask is read as it is, and the question is asked."""
    found = read_label_map(encoded(255 - DISC))

    np.testing.assert_array_equal(found.labels, 255 - DISC)
    assert found.notes == (BORDER,)
    assert read_label_map(encoded(EMPTY + 255)).notes == ()


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(discs(1, 2, 3), id="consecutive"),
        pytest.param(discs(7, 90, 200, 255), id="sparse"),
        pytest.param(discs(128, 255), id="half and full"),
        pytest.param(discs(1, 255), id="one and void"),
        pytest.param(discs(*range(3, 250, 13)), id="many"),
        pytest.param(discs(1, 2).astype(np.uint16) * 1000, id="16 bits"),
        pytest.param(np.arange(400 * 25, dtype=np.uint16).reshape(100, 100).repeat(4, 0).repeat(4, 1) // 7, id="blocks"),  # noqa: E501
        pytest.param(discs(1) + np.uint8(1), id="no background"),
        pytest.param(EMPTY, id="empty"),
    ],
)  # fmt: skip
def test_a_label_map_is_read_as_it_is(labels: np.ndarray) -> None:
    """Numbers of objects stay what they are, and nothing is noted."""
    found = read_label_map(encoded(labels))

    np.testing.assert_array_equal(found.labels, labels)
    assert set(found.notes) <= {BORDER}


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (encoded(discs(1, 2, 3), "JPEG"), "levels 0 to .*hint: JPEG changes the numbers"),
        (encoded(discs(80, 160, 240), "JPEG"), "more than two groups\nhint: JPEG"),
        (encoded(discs(128, 255), "WEBP"), "more than two groups\nhint: WEBP"),
        (encoded(DISC // 255, "JPEG"), "levels 0 to .*masks of one object as PNG or with the"),
        (
            encoded(ndimage.zoom(discs(80, 160, 240), 1.7, order=1)),
            "run into each other\nhint: .*nearest neighbour",
        ),
        (
            encoded(np.dstack([discs(255, 0), discs(0, 255), discs(0, 0)])),
            "one channel, got .* in colours\nhint: save it as a grey or palette PNG",
        ),
        (
            encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)),
            "grey levels that run into each other\nhint: it is a photograph",
        ),
        (encoded(SOFT.astype(np.float32), "TIFF"), "whole numbers, got .* of mode F"),
    ],
)  # fmt: skip
def test_what_has_no_clear_meaning_is_refused(stored: bytes, said: str) -> None:
    """No object is invented of levels that are neither two nor numbers."""
    with pytest.raises(ImageError, match=f"(?s){said}"):
        read_label_map(stored)


@pytest.mark.parametrize("name", REAL)
def test_real_masks_survive_jpeg(shared_data: Path, name: str) -> None:
    """At any quality from 30 to 95 the object is that of the PNG."""
    for path in sorted((shared_data / name / "masks").iterdir())[:4]:
        truth = (read_mask(path) > 0).astype(np.uint8) * 255
        for quality in (30, 60, 95):
            found = read_label_map(encoded(truth, "JPEG", quality=quality))

            assert overlap(found.labels, truth) > 0.99, (path.name, quality)
            assert np.unique(found.labels).tolist() == [0, 255]
            assert found.notes == (GREY,)


@pytest.mark.parametrize("name", [*REAL, *LABELLED])
def test_real_label_maps_are_read_as_they_are(shared_data: Path, name: str) -> None:
    """Also at half the size, where cells and rings are a few pixels wide."""
    for path in sorted((shared_data / name / "masks").iterdir()):
        labels = read_mask(path)
        half = np.ascontiguousarray(labels[::2, ::2])

        assert not {GREY, COLOUR} & {*read_label_map(path).notes}
        np.testing.assert_array_equal(read_label_map(path).labels, labels)
        np.testing.assert_array_equal(read_label_map(encoded(half)).labels, half)


@pytest.mark.parametrize("name", LABELLED)
def test_real_label_maps_saved_as_jpeg_are_refused(shared_data: Path, name: str) -> None:
    """Whether their numbers are small or spread over all levels."""
    for path in sorted((shared_data / name / "masks").iterdir())[:6]:
        labels = read_mask(path).astype(np.uint8)
        if len(np.unique(labels)) < 3:
            continue
        spread = (labels.astype(int) * 255 // labels.max()).astype(np.uint8)
        for values, quality in ((labels, 90), (spread, 30), (spread, 95)):
            with pytest.raises(ImageError, match="JPEG changes the numbers of objects"):
                read_label_map(encoded(values, "JPEG", quality=quality))


def test_photographs_are_refused(shared_data: Path) -> None:
    """An image in the place of a mask has no objects."""
    for path in sorted((shared_data / "busi_us" / "images").iterdir())[:4]:
        with pytest.raises(ImageError, match=r"expected a mask"):
            read_label_map(path)
