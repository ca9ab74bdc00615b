from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from nexus.core.errors import InputError
from nexus.ops.rle import decode_rle, encode_rle, encode_rle_at, rle_area, rle_counts


def reference(mask: np.ndarray) -> dict[str, object]:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def check(mask: np.ndarray) -> None:
    rle = encode_rle(mask)

    assert rle == reference(mask)
    decoded = decode_rle(rle)
    assert decoded.dtype == np.bool_
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, mask)
    assert rle_area(rle) == np.count_nonzero(mask)


def plain(mask: np.ndarray) -> list[int]:
    """Run lengths by the plainest loop."""
    counts, value, run = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    return [*counts, run]


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24)))
def test_random_masks_encode_as_pycocotools_does(mask: np.ndarray) -> None:
    """Any small mask gives pycocotools' bytes and comes back."""
    check(mask)


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=40).filter(any),
    st.sampled_from([1, 2, 7]),
)
def test_runs_of_every_length_encode_as_pycocotools_does(runs: list[int], height: int) -> None:
    """Long and short runs in turn, whose differences have both signs, give pycocotools' bytes."""
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    flat = np.pad(flat, (0, -len(flat) % height))

    check(flat.reshape(-1, height).T)


SINGLE = np.zeros((13, 17), bool)
SINGLE[5, 9] = True
ADVERSARIAL = {
    "empty": np.zeros((9, 6), bool),
    "full": np.ones((9, 6), bool),
    "one pixel, on": np.ones((1, 1), bool),
    "one pixel, off": np.zeros((1, 1), bool),
    "single": SINGLE,
    "row": np.arange(50)[None] % 3 == 0,
    "column": np.arange(50)[:, None] % 4 == 0,
    "checkerboard": np.indices((31, 30)).sum(0) % 2 == 0,
    "columns": np.indices((31, 30))[1] % 2 == 0,
    "rows": np.indices((31, 30))[0] % 2 == 1,
    "first pixel": np.arange(12).reshape(3, 4) == 0,
    "last pixel": np.arange(12).reshape(3, 4) == 11,
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_masks_encode_as_pycocotools_does(name: str) -> None:
    """Empty, full, thin and alternating masks give pycocotools' bytes and come back."""
    check(ADVERSARIAL[name])


def test_large_masks_encode_as_pycocotools_does() -> None:
    """Counts over 2 ** 24 and noise of millions of runs give pycocotools' bytes."""
    large = np.zeros((5000, 5000), bool)
    check(large)
    large[2500:, 4000] = True
    large[-1, -1] = True
    check(large)
    check(np.random.default_rng(0).random((1500, 1500)) < 0.5)


def test_integers_and_layouts_do_not_matter() -> None:
    """uint8 of 0 and 1, Fortran order and strided views encode as the bool mask does."""
    mask = np.random.default_rng(1).random((8, 12)) < 0.4

    expected = encode_rle(mask)
    assert encode_rle(mask.astype(np.uint8)) == expected
    assert encode_rle(np.asfortranarray(mask)) == expected
    assert encode_rle(np.repeat(mask, 2, 1)[:, ::2]) == expected


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_uncompressed_counts_and_bytes_decode(mask: np.ndarray) -> None:
    """Run lengths as a list or array, and counts as bytes, decode to the same mask."""
    size = list(mask.shape)
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))

    for counts in (plain(mask), np.array(plain(mask)), packed["counts"]):
        rle = {"size": size, "counts": counts}
        np.testing.assert_array_equal(decode_rle(rle), mask)
        assert rle_area(rle) == mask.sum()


def test_runs_of_no_length_decode() -> None:
    """Other writers' zero-length runs are taken."""
    np.testing.assert_array_equal(
        decode_rle({"size": (1, 4), "counts": [0, 2, 0, 1, 1]}), [[True, True, True, False]]
    )


def test_rle_goes_into_json() -> None:
    """The encoding holds nothing but plain JSON types."""
    rle = encode_rle(SINGLE)

    assert json.loads(json.dumps(rle)) == rle


def test_encoding_a_large_mask_takes_little_memory() -> None:
    """A blob in a 4000 x 4000 mask is encoded within three times the mask's own bytes."""
    mask = np.zeros((4000, 4000), bool)
    mask[1000:3000, 1000:3000] = True
    tracemalloc.start()
    encode_rle(mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 3 * mask.nbytes


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 3, 4), bool), r"shape \(H, W\), got shape \(2, 3, 4\)\nhint: .* one by one"),
        (np.zeros((0, 4), bool), r"with pixels, got shape \(0, 4\)"),
        (np.zeros((2, 2)), r"bool, or of 0 and 1, got float64\nhint: logits: mask > 0"),
        (np.array([[0, 255]]), r"0 and 1, got values 0..255\nhint: one object"),
        (np.array([[0, -1]]), r"got values -1..0"),
    ],
)
def test_what_is_no_mask_is_refused(mask: np.ndarray, message: str) -> None:
    """Stacks, empty arrays, logits and label maps are errors that say what to do."""
    with pytest.raises(InputError, match=message):
        encode_rle(mask)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 2]}, r"'size' and 'counts', got \['size'\]"),
        ("04", r"got str"),
        ({"size": [2], "counts": "04"}, r"size of \[height, width\], got \[2\]"),
        ({"size": [2, -2], "counts": "04"}, r"got \[2, -2\]"),
        ({"size": [2, 2.0], "counts": "04"}, r"got \[2, 2.0\]"),
        ({"size": [2, 2], "counts": ""}, r"last ends a number, got b''"),
        ({"size": [2, 2], "counts": "0~"}, r"got b'0~'"),
        ({"size": [2, 2], "counts": "0 4"}, r"cut short or is not COCO RLE"),
        ({"size": [2, 2], "counts": "0T"}, r"last ends a number"),
        ({"size": [2, 2], "counts": "0é"}, r"in ASCII, got '0é'"),
        ({"size": [2, 2], "counts": "o" * 20 + "0"}, r"at most 8 characters each, got one of 21"),
        ({"size": [2, 3], "counts": "04"}, r"2 x 3 = 6 pixels, got 4\nhint: size is"),
        ({"size": [2, 2], "counts": [5, -1]}, r"got 4 with negative runs"),
        ({"size": [2, 2], "counts": []}, r"4 pixels, got 0"),
        ({"size": [2, 2], "counts": [1.0, 3.0]}, r"list of run lengths, got \[1.0, 3.0\]"),
        ({"size": [2, 2], "counts": [[1, 2, 3, 4]]}, r"polygon .* is not RLE"),
        ({"size": [2, 2], "counts": [[1, 2], [3]]}, r"polygon .* is not RLE"),
        ({"size": [2, 2], "counts": None}, r"got None"),
    ],
)
def test_damaged_rle_is_refused(rle: object, message: str) -> None:
    """Missing keys, cut or foreign strings and sums that do not fit are errors."""
    with pytest.raises(InputError, match=message):
        decode_rle(rle)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        rle_area(rle)  # type: ignore[arg-type]


@given(st.binary(max_size=60), st.integers(1, 40), st.integers(1, 40))
def test_random_counts_never_decode_to_another_size(data: bytes, height: int, width: int) -> None:
    """Foreign bytes are an InputError, or a mask of the stated size."""
    try:
        shape = decode_rle({"size": [height, width], "counts": data}).shape
    except InputError as error:
        shape = None
        message = error.message

    assert message.startswith("expected") if shape is None else shape == (height, width)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.8, 1.0]))
def test_a_part_is_encoded_as_in_the_whole_image(seed: int, density: float) -> None:
    """A mask placed in a larger image gives the bytes of the image-sized mask."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 30, 2))
    y0, x0 = int(rng.integers(0, height)), int(rng.integers(0, width))
    y1, x1 = int(rng.integers(y0, height)) + 1, int(rng.integers(x0, width)) + 1
    part = rng.random((y1 - y0, x1 - x0)) < density
    whole = np.zeros((height, width), bool)
    whole[y0:y1, x0:x1] = part

    rle = encode_rle_at(part, (x0, y0), (height, width))

    assert rle == encode_rle(whole)
    assert rle_counts(rle).sum() == height * width


def test_a_part_outside_the_image_is_refused() -> None:
    """The message says where it would lie."""
    with pytest.raises(InputError, match="image of 2 x 2, got one of 1 x 2 at row 0, column 1"):
        encode_rle_at(np.ones((1, 2), bool), (1, 0), (2, 2))
