from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nexus.core.errors import ImageError, ImageNotFoundError, InputError, NexusWarning
from nexus.data.images.loading import (
    load_image,
    read_mask,
    write_mask,
    write_picture,
)

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
RGB16 = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def cv_encoded(array: np.ndarray, suffix: str) -> bytes:
    """Encode an RGB(A) or grey array of any depth with OpenCV, which orders channels BGR."""
    if array.ndim == 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    done, data = cv2.imencode(suffix, array)
    assert done
    return data.tobytes()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", pixels)
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_every_lossless_format_gives_its_pixels(kind: str, tmp_path: Path) -> None:
    """A file gives the same pixels by str, by Path and by its bytes."""
    data = encoded(Image.fromarray(RGB), kind, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(data)

    for source in (str(path), path, data, bytearray(data)):
        image = load_image(source)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, RGB)
        assert image.flags.c_contiguous
        assert image.flags.writeable


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "PA", "La", "LAB"]
)
def test_every_pillow_mode_becomes_rgb(mode: str) -> None:
    """Palette, alpha, 1-bit and print colour give what Pillow shows for them."""
    source = Image.fromarray(RGB)
    if mode == "PA":
        image = source.convert("P").convert("PA")
    elif mode == "La":
        image = source.convert("LA").convert("La")
    else:
        image = source.convert(mode)
    expected = image.convert({"PA": "RGBA", "La": "LA"}.get(mode, "RGB")).convert("RGB")

    np.testing.assert_array_equal(load_image(image), np.asarray(expected))


def test_alpha_is_dropped_not_blended() -> None:
    """Transparent pixels keep their colour."""
    rgba = np.dstack([RGB, np.zeros((5, 7), np.uint8)])

    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(rgba))), RGB)
    np.testing.assert_array_equal(load_image(rgba), RGB)


def test_palette_with_transparency_does_not_warn() -> None:
    """A palette PNG whose entries carry alpha is read without a warning of Pillow."""
    palette = Image.fromarray(RGB).convert("P")
    data = encoded(palette, transparency=bytes(range(256)))

    np.testing.assert_array_equal(load_image(data), np.asarray(palette.convert("RGB")))


def test_animation_gives_its_first_frame() -> None:
    """The first frame of a GIF and the first page of a TIFF are taken."""
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]

    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(load_image(data)[0, 0], (255, 0, 0))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_files_keep_16_bits(suffix: str, channels: int) -> None:
    """16-bit grey, RGB and RGBA in PNG and TIFF come as uint16, exactly."""
    array = RNG.integers(0, 65536, (9, 11, channels), dtype=np.uint16)
    data = cv_encoded(array[..., 0] if channels == 1 else array, suffix)

    image = load_image(data)

    assert image.dtype == np.uint16
    np.testing.assert_array_equal(
        image, np.repeat(array, 3, 2) if channels == 1 else array[..., :3]
    )


def test_16_bit_colour_tiff_without_compression_keeps_16_bits(tmp_path: Path) -> None:
    """Both passes find the samples when Pillow reads the strips itself."""
    path = tmp_path / "raw.tiff"
    assert cv2.imwrite(str(path), RGB16[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 1])

    np.testing.assert_array_equal(load_image(path), RGB16)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_tiff_of_both_byte_orders_comes_native(order: str) -> None:
    """A big-endian file gives the same native uint16 as a little-endian one."""
    grey = RGB16[..., 0]
    pixels = grey.astype(f"{order}u2").tobytes()
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = [(256, 7), (257, 5), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 5)]
    entries.append((279, len(pixels)))
    offset = 8 + len(pixels)
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in entries:
        directory += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    data = head + struct.pack(f"{order}I", offset) + pixels + directory + bytes(4)

    image = load_image(data)

    assert image.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(image[..., 1], grey)


def test_16_bit_grey_alpha_png_keeps_16_bits() -> None:
    """Grey with alpha, which Pillow cuts to 8 bits, keeps 16."""
    pair = np.dstack([RGB16[..., 0], RGB16[..., 1]]).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pair)

    image = load_image(png(7, 5, 16, 4, zlib.compress(rows)))

    np.testing.assert_array_equal(image[..., 2], RGB16[..., 0])


def test_16_bit_pgm_keeps_16_bits() -> None:
    """A 16-bit PGM, which Pillow opens as 32-bit integers, comes as uint16."""
    image = load_image(cv_encoded(RGB16[..., 0], ".pgm"))

    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 0], RGB16[..., 0])


def test_float_tiff_is_read_as_float() -> None:
    """A float TIFF in [0, 1] keeps its values."""
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)

    np.testing.assert_array_equal(
        load_image(encoded(Image.fromarray(values), "TIFF"))[..., 0], values
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """All eight orientations give what Pillow's own rotation gives, for files and images."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))

    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(load_image(opened), expected)
    np.testing.assert_array_equal(load_image(data), expected)


def test_exif_orientation_is_applied_to_16_bit_colour() -> None:
    """The two passes of 16-bit colour are turned as well."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = cv_encoded(RGB16, ".png")
    end = data.index(b"IDAT") - 4
    data = data[:end] + png_chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]

    np.testing.assert_array_equal(load_image(data), np.rot90(RGB16, -1))


def test_unreadable_exif_warns_and_the_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged EXIF data costs a warning, not the image."""

    def broken(self: Image.Image) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", broken)

    with pytest.warns(NexusWarning, match="taken as upright: not a TIFF file"):
        np.testing.assert_array_equal(load_image(Image.fromarray(RGB)), RGB)


def test_arrays_come_back_uncopied_where_they_can() -> None:
    """An RGB array of a supported type is returned itself."""
    for array in (RGB, RGB16, (RGB / 255).astype(np.float32)):
        assert np.shares_memory(load_image(array), array)


def test_array_layouts() -> None:
    """HW, HW1, HW3, HW4, strided, read-only and big-endian arrays give the same RGB."""
    frozen = RGB.copy()
    frozen.flags.writeable = False

    np.testing.assert_array_equal(load_image(GREY), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(load_image(GREY[..., None]), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(load_image(RGB[:, ::-1]), RGB[:, ::-1])
    np.testing.assert_array_equal(load_image(RGB16.astype(">u2")), RGB16)
    assert load_image(RGB16.astype(">u2")).dtype.isnative
    assert load_image(frozen).flags.writeable


def test_floats_of_any_width_become_float32() -> None:
    """float16, float64 and values a rounding error outside [0, 1] are taken."""
    image = load_image(np.array([[0.0, 1.0 + 5e-7, -5e-7]]))

    assert image.dtype == np.float32
    assert image.min() == 0
    assert image.max() == 1
    assert load_image(np.ones((2, 2), np.float16)).dtype == np.float32


def test_tensors_are_channels_first_unless_that_makes_no_sense() -> None:
    """CHW, HWC, HW and bfloat16 tensors are read, gradients or not."""
    chw = torch.from_numpy(RGB.transpose(2, 0, 1).copy())

    np.testing.assert_array_equal(load_image(chw), RGB)
    np.testing.assert_array_equal(load_image(torch.from_numpy(RGB)), RGB)
    np.testing.assert_array_equal(load_image(torch.from_numpy(GREY.copy())), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(load_image(chw[:1]), np.dstack([GREY] * 3))
    half = load_image((chw / 255).bfloat16().requires_grad_())
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, RGB / 255, atol=1 / 256)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.astype(bool), r"got bool\nhint: image.astype\(np.uint8\) \* 255"),
        (RGB.astype(np.int64), r"got int64\nhint: the values fit: image.astype\(np.uint8\)"),
        (RGB16.astype(np.int32), r"got int32\nhint: the values fit: image.astype\(np.uint16\)"),
        (RGB.astype(np.int32) - 1024, r"got int32\nhint: scale it to float in \[0, 1\]"),
        (np.array([[0.0, 255.0]]), r"values from 0 to 255\nhint: divide by 255"),
        (np.array([[0.0, 1.0001]]), r"values from 0 to 1.0001\nhint: .*image.clip\(0, 1\)"),
        (np.array([[-0.03, 1.2]]), r"values from -0.03 to 1.2\nhint: .*image.clip\(0, 1\)"),
        (np.array([[0.0, 1.9]]), r"values from 0 to 1.9\nhint: scale it to"),
        (np.array([[-1.0, 1.0]]), r"values from -1 to 1\nhint: scale it to \[0, 1\]"),
        (np.full((2, 2), np.inf), r"got values from inf to inf"),
        (np.array([[0.0, np.nan]]), r"got 1 NaN\nhint: replace them"),
        (RGB.astype(complex), r"got complex128"),
        (RGB.astype(object), r"got object"),
        (RGB.transpose(2, 0, 1), r"shape \(3, 5, 7\)\nhint: channels come last"),
        (RGB[None], r"shape \(1, 5, 7, 3\)\nhint: this is a batch"),
        (RGB[..., :2], r"C of 1, 3 or 4, got shape \(5, 7, 2\)"),
        (RGB[0, 0], r"got shape \(3,\)"),
        (RGB[:0], r"at least 1 x 1 pixels, got an array of 7 x 0"),
        (np.empty((4, 0, 3), np.uint8), r"got an array of 0 x 4"),
        (RGB.tolist(), r"got list\nhint: np.asarray"),
        (None, r"got NoneType"),
        (torch.zeros(2, 3, 4, 5), r"this is a batch"),
    ],
)
def test_arrays_without_a_clear_meaning_are_refused(array: object, message: str) -> None:
    """Types, shapes and ranges that would need a guess are errors that say what to do."""
    with pytest.raises(ImageError, match=message):
        load_image(array)  # type: ignore[arg-type]


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    """A path that does not exist can be caught as FileNotFoundError too."""
    with pytest.raises(FileNotFoundError, match="which does not exist") as caught:
        load_image(tmp_path / "nothing.png")

    assert isinstance(caught.value, ImageNotFoundError)
    assert isinstance(caught.value, ImageError)
    assert "nothing.png" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "which is a folder"),
        (b"", "which is empty"),
        (b"<html>404</html>", "in no known image format\nhint: PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n", "in no known image format"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0", "header cannot be read"),
    ],
)
def test_what_is_not_an_image_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    """Folders, empty files, web pages, PostScript and bare headers say what they are."""
    path = tmp_path / "image.png"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    with pytest.raises(ImageError, match=message):
        load_image(path)


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    """A NUL in a path is an ImageError, not a bare ValueError."""
    with pytest.raises(ImageError, match=r"does not exist|readable image file"):
        load_image("a\0b.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM"])
def test_a_truncated_file_is_never_half_decoded(kind: str) -> None:
    """Whatever the cut, a file gives an ImageError or all of its pixels."""
    picture = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    data = encoded(picture, kind)
    whole = load_image(data)

    for length in range(1, len(data), max(1, len(data) // 60)):
        try:
            image = load_image(data[:length])
        except ImageError:
            continue
        np.testing.assert_array_equal(image, whole)
    with pytest.raises(ImageError, match="expected a"):
        load_image(data[: len(data) // 2])


def test_a_truncated_16_bit_colour_file_is_refused() -> None:
    """The two-pass reading of 16-bit colour refuses cut files too."""
    data = cv_encoded(RNG.integers(0, 65536, (30, 30, 3), dtype=np.uint16), ".png")

    with pytest.raises(ImageError, match=r"whole PNG file.*pixels cannot be decoded"):
        load_image(data[: len(data) // 2])


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a"]))
def test_random_bytes_raise_nothing_but_image_errors(data: bytes, prefix: bytes) -> None:
    """Foreign bytes are an ImageError, or by rare luck an image; no decoder's error comes out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = load_image(prefix + data, max_pixels=10_000)
        except ImageError as error:
            image = None
            message = error.message

    assert message.startswith("expected") if image is None else image.shape[2] == 3


def test_damaged_pixels_are_an_image_error() -> None:
    """A PNG whose compressed pixels are noise is refused."""
    with pytest.raises(ImageError, match="pixels cannot be decoded"):
        load_image(png(8, 8, 8, 2, b"\x78\x9c" + bytes(range(100))))


@pytest.mark.parametrize("kind", ["path", "bytes", "array", "pillow", "tensor"])
def test_images_above_the_limit_are_refused(kind: str, tmp_path: Path) -> None:
    """Every kind of source is held to max_pixels, and None lifts the limit."""
    path = tmp_path / "image.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    source = {
        "path": path,
        "bytes": path.read_bytes(),
        "array": RGB,
        "pillow": Image.fromarray(RGB),
        "tensor": torch.from_numpy(RGB.transpose(2, 0, 1).copy()),
    }[kind]

    with pytest.raises(ImageError, match=r"at most 34 pixels, got .* of 7 x 5 \(35 pixels\)"):
        load_image(source, max_pixels=34)
    for limit in (35, None):
        np.testing.assert_array_equal(load_image(source, max_pixels=limit), RGB)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9"])
def test_the_limit_must_be_a_count(limit: object) -> None:
    """A limit that is no count is refused."""
    with pytest.raises(InputError, match="expected `max_pixels` to be a count of pixels"):
        load_image(RGB, max_pixels=limit)  # type: ignore[arg-type]


MEASURE = """
import resource, sys
from nexus.core.errors import ImageError
from nexus.data.images.loading import load_image
load_image(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_image(sys.argv[2])
except ImageError as error:
    print(error.message)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // (1 if sys.platform != "darwin" else 1024))
"""


def test_a_huge_image_is_refused_from_its_header(tmp_path: Path) -> None:
    """40000 x 40000 pixels are refused with under 50 MB of growth, whole file or header alone."""
    small, header, whole = (tmp_path / name for name in ("small.png", "header.png", "whole.png"))
    small.write_bytes(encoded(Image.fromarray(RGB)))
    header.write_bytes(png(40000, 40000, 8, 2, b""))
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(5001)) for _ in range(40000)) + packer.flush()
    whole.write_bytes(png(40000, 40000, 1, 0, rows))

    for path in (header, whole):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", MEASURE, str(small), str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        message, grown_kb = done.stdout.splitlines()
        assert "expected at most 100,000,000 pixels" in message
        assert "of 40000 x 40000 (1,600,000,000 pixels)" in message
        assert int(grown_kb) < 50_000
        assert done.stderr == ""


def test_pillows_own_limit_neither_warns_nor_stops_nor_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """max_pixels alone decides, and Pillow's global keeps the value the caller gave it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)

    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(RGB))), RGB)
    assert Image.MAX_IMAGE_PIXELS == 8


def test_threads_read_the_same_file_alike(tmp_path: Path) -> None:
    """Eight threads that decode one file all get its pixels."""
    path = tmp_path / "image.png"
    path.write_bytes(cv_encoded(RGB16, ".png"))
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(load_image(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 8
    for image in results:
        np.testing.assert_array_equal(image, RGB16)


def test_32_bit_integer_files_are_refused() -> None:
    """A 32-bit TIFF has no agreed range, so it is refused with what to do."""
    data = encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF")

    with pytest.raises(ImageError, match="32-bit or signed integers\nhint: scale the values"):
        load_image(data)


def test_a_mode_pillow_cannot_convert_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that Pillow lacks, as LAB in older ones, is an ImageError."""

    def missing(self: Image.Image, mode: str) -> None:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Image.Image, "convert", missing)

    with pytest.raises(ImageError, match="converts to RGB, got a Pillow image of mode LAB"):
        load_image(Image.new("LAB", (2, 2)))


def test_a_lazy_pillow_image_of_a_cut_file_is_refused() -> None:
    """An image opened with Pillow is checked when its pixels are loaded."""
    picture = Image.fromarray(RNG.integers(0, 256, (30, 30, 3), dtype=np.uint8))
    lazy = Image.open(io.BytesIO(encoded(picture)[:800]))

    with pytest.raises(ImageError, match="Pillow image whose pixels cannot be decoded"):
        load_image(lazy)


@pytest.mark.parametrize(
    ("mask", "stored"),
    [
        (GREY > 128, np.where(GREY > 128, 255, 0).astype(np.uint8)),
        (GREY, GREY),
        (GREY.astype(np.int64), GREY),
        (RGB16[..., 0], RGB16[..., 0]),
        (np.array([[0, 300]], np.int32), np.array([[0, 300]], np.uint16)),
    ],
)
def test_masks_come_back_as_written(mask: np.ndarray, stored: np.ndarray, tmp_path: Path) -> None:
    """Bool is written as 0 and 255, labels as they are, in 8 or 16 bits."""
    path = write_mask(tmp_path / "new" / "mask.png", mask)

    back = read_mask(path)
    assert back.dtype == stored.dtype
    np.testing.assert_array_equal(back, stored)
    assert [p.name for p in path.parent.iterdir()] == ["mask.png"]


def test_palette_and_1_bit_label_maps_give_stored_values() -> None:
    """Palette indices are labels, whatever colours they have; 1-bit gives 0 and 1."""
    palette = Image.fromarray(GREY % 5, mode=None).convert("L")
    indexed = Image.new("P", (7, 5))
    indexed.putdata((GREY % 5).ravel().tolist())
    indexed.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9, 7, 7, 7])

    np.testing.assert_array_equal(read_mask(encoded(indexed)), GREY % 5)
    np.testing.assert_array_equal(
        read_mask(encoded(Image.fromarray(GREY > 99))), (GREY > 99).astype(np.uint8)
    )
    np.testing.assert_array_equal(read_mask(encoded(palette)), GREY % 5)


def test_a_colour_image_is_no_label_map() -> None:
    """RGB is refused as a label map."""
    with pytest.raises(ImageError, match="label map of one channel, got encoded bytes of mode RGB"):
        read_mask(encoded(Image.fromarray(RGB)))


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        ("mask.jpg", GREY, r"ends in .png, got 'mask.jpg'"),
        ("mask.png", RGB, r"shape \(H, W\), got shape \(5, 7, 3\)"),
        ("mask.png", GREY[:0], r"got shape \(0, 7\)"),
        ("mask.png", GREY / 255, r"bool or integer mask, got float64\nhint: for logits"),
        ("mask.png", GREY.astype(int) - 1000, r"labels in 0..65535, got -\d+..-\d+"),
        ("mask.png", GREY.astype(int) + 65536, r"number the labels afresh"),
    ],
)
def test_masks_that_cannot_be_written_are_refused(
    name: str, mask: np.ndarray, message: str, tmp_path: Path
) -> None:
    """A lossy suffix, a wrong shape or type, and labels over 16 bits are errors without a file."""
    with pytest.raises(InputError, match=message):
        write_mask(tmp_path / name, mask)

    assert list(tmp_path.iterdir()) == []


def test_real_pictures_are_read_as_opencv_reads_them(shared: Path) -> None:
    """PNG pictures of the shared sets have the pixels another decoder gives."""
    folder = shared / "data"

    for name in ("pennfudan_sample", "ph2_skin", "acdc_mri", "busi_us"):
        path = sorted((folder / name / "images").glob("*.png"))[0]
        np.testing.assert_array_equal(load_image(path), cv2.imread(str(path))[..., ::-1])
    labels = sorted((folder / "coco_sample" / "masks").glob("*.png"))[0]
    np.testing.assert_array_equal(read_mask(labels), cv2.imread(str(labels), cv2.IMREAD_UNCHANGED))


def test_a_picture_is_written_as_it_is(tmp_path: Path) -> None:
    """An RGB picture comes back from its PNG unchanged."""
    path = write_picture(tmp_path / "new" / "picture.png", RGB)

    np.testing.assert_array_equal(load_image(path), RGB)


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("picture.jpg", RGB, r"ends in .png, got 'picture.jpg'"),
        ("picture.png", GREY, r"shape \(H, W, 3\) and uint8, got \(5, 7\) uint8"),
        ("picture.png", RGB16, r"got \(5, 7, 3\) uint16"),
    ],
)
def test_pictures_that_cannot_be_written_are_refused(
    name: str, picture: np.ndarray, message: str, tmp_path: Path
) -> None:
    """A lossy suffix, a grey or a 16-bit picture are errors without a file."""
    with pytest.raises(InputError, match=message):
        write_picture(tmp_path / name, picture)

    assert list(tmp_path.iterdir()) == []


class _Endless(io.RawIOBase):
    """A stream that can be read once and not rewound, as an answer of a server."""

    def __init__(self, content: bytes) -> None:
        self.left = content

    def read(self, size: int = -1) -> bytes:
        content, self.left = self.left, b""
        return content


def test_open_files_are_read(tmp_path: Path) -> None:
    """A file on the disk or in memory, just written or read before, and one without a way back."""
    path = write_picture(tmp_path / "a.png", RGB)
    memory = io.BytesIO()
    Image.fromarray(RGB).save(memory, "PNG")  # its end is where it stands now
    with path.open("rb") as file:
        for source in (file, file, memory, _Endless(path.read_bytes())):
            np.testing.assert_array_equal(load_image(source), RGB)

        assert not file.closed
    mask = io.BytesIO(write_mask(tmp_path / "m.png", GREY).read_bytes())
    np.testing.assert_array_equal(read_mask(mask), GREY)


def test_open_files_that_give_no_image_are_told(tmp_path: Path) -> None:
    """Text mode, a closed file, one open for writing, and an object that reads something else."""
    path = write_picture(tmp_path / "a.png", RGB)
    closed = path.open("rb")
    closed.close()
    with path.open(encoding="latin-1") as text, (tmp_path / "b").open("wb") as written:
        wrong = [
            (
                text,
                r"opened in binary mode, got the open file .*a.png' in text.*\nhint: open\(path,",
            ),
            (closed, "closed file"),
            (written, "expected a readable image file, got the open file"),
            (io.StringIO("a"), "in text mode"),
            (SimpleNamespace(read=lambda: 5), "expected bytes from the open file 'Simple.*got int"),
            (io.BytesIO(), "got the open file 'BytesIO', which is empty"),
            (io.BytesIO(path.read_bytes()[:-30]), "got the open file 'BytesIO', whose pixels"),
        ]
        for source, message in wrong:
            with pytest.raises(ImageError, match=message):
                load_image(source)
