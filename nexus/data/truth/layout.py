"""What all readers ask of a dataset folder, and what they say where it is not as published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import ImageError, ImageNotFoundError, InputError
from nexus.data.formats.dataset import IMAGE_SUFFIXES
from nexus.data.images.loading import load_image, read_mask

_EXIF_ORIENTATION = 0x0112


def folder_at(path: Path, hint: str) -> Path:
    """Return a folder that is there.

    Raises:
        InputError: It is not; `hint` says what should be in the root.
    """
    if not path.is_dir():
        raise InputError(f"expected the folder {str(path)!r}, got no such folder", hint=hint)
    return path


def file_at(path: Path, hint: str) -> Path:
    """Return a file that is there.

    Raises:
        InputError: It is not; `hint` says what should be in the root.
    """
    if not path.is_file():
        raise InputError(f"expected the file {str(path)!r}, got no such file", hint=hint)
    return path


def inside(root: Path, name: Any, source: Path) -> Path:
    """Return the path of a file that an annotation file names, which lies below `root`.

    Args:
        root: Folder the name is relative to.
        name: With forward slashes.
        source: The file that names it, for the error.

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


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        InputError: It is damaged, cut short or no text.
    """
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected a whole JSON document, got {str(path)!r}: {error}",
            hint="the file is damaged or cut short; fetch it again",
        ) from error


def read_document(path: Path, **keys: type) -> dict[str, Any]:
    """Read a JSON object that has certain keys.

    Args:
        path: The file.
        keys: Types of the values that must be there, by key.

    Raises:
        InputError: As in `read_json`; another value, or a key is missing or of another type.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(
            f"expected {str(path)!r} to hold a JSON object with {', '.join(keys)}, "
            f"got {type(document).__name__}",
        )
    require(document, path, **keys)
    return document


def require(record: Any, path: Path, **keys: type | tuple[type, ...]) -> None:
    """Check that a record of a JSON file is an object that has certain keys.

    Raises:
        InputError: It is not, or one is missing or of another type.
    """
    if not isinstance(record, dict):
        raise InputError(f"expected objects in {str(path)!r}, got {record!r:.80}")
    for key, kind in keys.items():
        if not isinstance(record.get(key), kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(each.__name__ for each in kinds)
            got = "none" if key not in record else f"{record[key]!r:.80}"
            raise InputError(
                f"expected {str(path)!r} to give {key!r} as {wanted}, got {got}",
                hint="the file is of another format, or damaged",
            )


def read_names(path: Path, hint: str) -> list[str]:
    """Read a list of names, one a line, each once.

    Raises:
        InputError: There is no such file, or nothing in it.
    """
    lines = file_at(path, hint).read_text("utf-8").split()
    if not lines:
        raise InputError(f"expected names in {str(path)!r}, got an empty file", hint=hint)
    return list(dict.fromkeys(lines))


def pictures_in(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without ending, in the order of names.

    Raises:
        InputError: Two of them differ in their endings alone.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(
                f"expected one file named {path.stem!r} in {str(folder)!r}, "
                f"got {found[path.stem].name!r} and {path.name!r}"
            )
        found[path.stem] = path
    return found


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
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except FileNotFoundError as error:
        raise ImageNotFoundError(
            f"expected an image file, got {str(path)!r}, which does not exist",
            hint="the annotations name it; are the images of this split there?",
        ) from error
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"expected an image file, got {str(path)!r}: {error}") from error
    return (width, height) if turned else (height, width)


def check_size(size_hw: Sequence[int], image: Path, mask: Path) -> None:
    """Refuse a mask of another size than its image.

    Args:
        size_hw: Of the mask.
        image: The file of the image.
        mask: The file the mask is in.

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


def labels_of(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read a label map (H, W) and check that it fits its image.

    Raises:
        InputError: It is of another size, or either file cannot be read.
    """
    labels = read_mask(mask)
    check_size(labels.shape, image, mask)
    return labels.astype(np.int32)


def colours_of(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read a mask that is stored as colours (H, W, 3) and check that it fits its image.

    Raises:
        InputError: It is of another size, or either file cannot be read.
    """
    colours = load_image(mask)
    check_size(colours.shape[:2], image, mask)
    return colours.astype(np.int32)


def only_split(found: Iterable[str], root: Path, hint: str) -> str:
    """Return the one split there is.

    Raises:
        InputError: There is none, or more than one.
    """
    splits = sorted(set(found))
    if len(splits) != 1:
        raise InputError(
            f"expected one split in {str(root)!r}, got {', '.join(splits) or 'none'}",
            hint=hint if not splits else "say which: split=" + " or split=".join(map(repr, splits)),
        )
    return splits[0]
