"""What all readers ask of a dataset folder, and what they say where it is not as published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial, wraps
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from nexus.core.errors import ImageError, ImageNotFoundError, InputError
from nexus.data.formats.dataset import is_picture
from nexus.data.images.decoding import is_lossy
from nexus.data.images.loading import load_image
from nexus.data.images.masks import read_label_map
from nexus.data.truth.labelled import LabelledImage, Truth, truths_of_labels

_Entry = TypeVar("_Entry")
_Read = TypeVar("_Read", bound=Callable[..., Any])


def present(path: Path, hint: str, kind: Literal["folder", "file"] = "folder") -> Path:
    """Return a folder, or a file, that is there.

    Raises:
        InputError: It is not; `hint` says what should be in the root.
    """
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise InputError(f"expected the {kind} {str(path)!r}, got no such {kind}", hint=hint)
    return path


def some(entries: list[_Entry], what: str, folder: Path, hint: str) -> list[_Entry]:
    """Return what was found in a folder.

    Raises:
        InputError: Nothing was; `what` says of what, in the plural.
    """
    if not entries:
        raise InputError(f"expected {what} in {str(folder)!r}, got none", hint=hint)
    return entries


def inside(root: Path, name: Any, source: Path) -> Path:
    """Return the path below `root` of what the file `source` names, with forward slashes.

    Raises:
        InputError: Not a name, or one that leads out of the folder.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or Path(name).drive:
        raise InputError(
            f"expected {str(source)!r} to name files below {str(root)!r}, got {name!r}",
            hint="names are relative to that folder and never lead out of it",
        )
    return root.joinpath(*parts)


def read_names(path: Path, hint: str) -> list[str]:
    """Read a list of names, one a line, each once.

    Raises:
        InputError: There is no such file, or nothing in it.
    """
    lines = present(path, hint, "file").read_text("utf-8").split()
    if not lines:
        raise InputError(f"expected names in {str(path)!r}, got an empty file", hint=hint)
    return list(dict.fromkeys(lines))


def pictures_in(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without ending, in the order of names.

    There are none in a folder that does not exist.

    Raises:
        InputError: Two of them differ in their endings alone.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*"), key=lambda path: path.name):
        if not is_picture(path):
            continue
        if path.stem in found:
            raise InputError(
                f"expected one file named {path.stem!r} in {str(folder)!r}, "
                f"got {found[path.stem].name!r} and {path.name!r}"
            )
        found[path.stem] = path
    return found


def paired_images(
    pictures: Path,
    masks: Path,
    hint: str,
    truths: Callable[[Path, Path], list[Truth]],
    ignored: Callable[[Path, Path], NDArray[np.bool_] | None],
    prefix: str = "",
) -> list[LabelledImage]:
    """Return the images of a folder in the order of names, each with its mask in another.

    `truths` reads the objects of an image and its mask, `ignored` the pixels that count for
    nothing; the names begin with `prefix`.

    Raises:
        InputError: As in `pictures_in`, no such folder, no image, or one without a mask.
    """
    shown, known = (pictures_in(present(folder, hint)) for folder in (pictures, masks))
    images = []
    for stem, image in shown.items():
        pair = image, mask_of(image, known, stem, masks)
        reads = partial(load_image, image), partial(truths, *pair), partial(ignored, *pair)
        images.append(LabelledImage(prefix + image.name, *reads))
    return some(images, "images", pictures, hint)


def mask_of(image: Path, masks: dict[str, Path], stem: str, folder: Path) -> Path:
    """Return the mask of an image.

    Raises:
        InputError: There is none.
    """
    if stem not in masks:
        raise InputError(
            f"expected a mask for {str(image)!r} in {str(folder)!r}, got none named {stem!r}",
            hint="each image needs a mask of the same name, or leave the image out",
        )
    return masks[stem]


def image_size_hw(path: Path) -> tuple[int, int]:
    """Return height and width of an image file, upright, from its header.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageError: Not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except FileNotFoundError as error:
        raise ImageNotFoundError(
            f"expected an image file, got {str(path)!r}, which does not exist",
            hint="the annotations name it; are the images of this split there?",
        ) from error
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"expected an image file, got {str(path)!r}: {error}") from error
    return (width, height) if turned else (height, width)


def check_size(size_hw: Sequence[int], image: Path, mask: Path) -> None:
    """Refuse a mask of size `size_hw`, in the file `mask`, if its image file has another size.

    Raises:
        InputError: The sizes differ.
        ImageError: The image cannot be read.
    """
    wanted = image_size_hw(image)
    if tuple(size_hw) != wanted:
        raise InputError(
            f"expected a mask of {wanted[0]} x {wanted[1]} pixels for {str(image)!r}, "
            f"got {size_hw[0]} x {size_hw[1]} in {str(mask)!r}",
            hint="masks are as high and wide as their images; is it the mask of another image?",
        )


def labels_of(
    image: Path, mask: Path, read: Callable[[Path], NDArray[Any]] | None = None
) -> NDArray[np.int32]:
    """Read a label map (H, W), with `load_image` colours (H, W, 3), that has to fit its image.

    Raises:
        InputError: It is of another size, or either file cannot be read.
    """
    labels = read_label_map(mask).labels if read is None else read(mask)
    check_size(labels.shape[:2], image, mask)
    return labels.astype(np.int32)


def object_of(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read whatever is not black as object 1 (H, W), otherwise as `labels_of`.

    Of a file like JPEG, whose black is nearly black, what is nearer to it than to the brightest.
    """
    colours = labels_of(image, mask, load_image)
    darkest = colours.max() // 2 if is_lossy(mask) else 0
    return np.asarray((colours > darkest).any(axis=2), np.int32)


def truths_at(image: Path, mask: Path, categories: dict[int, str] | None = None) -> list[Truth]:
    """Read the objects of a label map, which has to fit its image, as in `labels_of`."""
    found = read_label_map(mask)
    check_size(found.labels.shape, image, mask)
    return truths_of_labels(found.labels.astype(np.int32), categories, notes=found.notes)


def kept(read: _Read) -> _Read:
    """Keep the last two results of a function that reads a file, for as long as it is not written.

    Its parts are asked for one after the other, and each would read all of it. The file comes first
    of the arguments.
    """
    cached = lru_cache(maxsize=2)(lambda stamp, *given: read(*given))
    return cast(_Read, wraps(read)(lambda *given: cached(given[0].stat().st_mtime_ns, *given)))


def only_split(found: Iterable[str], root: Path, hint: str) -> str:
    """Return the one split there is.

    Raises:
        InputError: There is none, or more than one.
    """
    splits = sorted(set(found))
    if len(splits) != 1:
        which = " or ".join(f"`split={split!r}`" for split in splits)
        raise InputError(
            f"expected one split in {str(root)!r}, got {', '.join(splits) or 'none'}",
            hint=f"say which: {which}" if splits else hint,
        )
    return splits[0]
