"""Images and masks in two folders, found to belong together by their names."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from nexus.core.errors import InputError, NexusWarning
from nexus.data.formats.dataset import InputFile, find_images, images_below
from nexus.data.truth.labelled import Unpaired
from nexus.data.truth.layout import mask_of, pictures_in

# What people and programs append to the name of an image to call its mask.
_ENDING = re.compile(
    r"[-_. ](masks?|seg|segmentation|segmask|labels?|gt|groundtruth|ground_truth|annotation|"
    r"lesion|binary)$"
)
_NAMED = 3


def pairs_of(pictures: Path, masks: Path) -> tuple[list[tuple[InputFile, Path]], Unpaired]:
    """Return the images of a folder, each with its mask in another, and how many have none.

    Both may lie in folders of the same names in there. A mask has the name of its image; where
    there is none, it may differ in case, or by an ending such as `_mask` or `-seg`. What has no
    partner is told in a warning.

    Raises:
        ImageNotFoundError: There is no folder of images.
        InputError: No image, or none with a mask; two masks for an image, or two images for a mask.
    """
    sources = find_images(pictures)
    of_folder = {
        place: pictures_in(masks / place)
        for place in sorted({Path(source.file_name).parent for source in sources})
    }
    folded = {place: _folded(known.values()) for place, known in of_folder.items()}
    taken: dict[Path, InputFile] = {}
    alone = []
    for source in sources:
        place = Path(source.file_name).parent
        own = of_folder[place].get(source.path.stem)
        also = folded[place].get(source.path.stem.casefold(), []) if own is None else [own]
        if not also:
            alone.append(source)
            continue
        if len(also) > 1:
            raise InputError(
                f"expected one mask for {str(source.path)!r} in {str(masks / place)!r}, got "
                f"{also[0].name!r} and {also[1].name!r}",
                hint="put all objects of an image into one label map: 1, 2, ... on 0",
            )
        if also[0] in taken:
            raise InputError(
                f"expected one image for the mask {str(also[0])!r}, got "
                f"{taken[also[0]].file_name!r} and {source.file_name!r}",
                hint="images of a folder differ in more than their endings",
            )
        taken[also[0]] = source
    if not taken:
        first = sources[0].path
        place = masks / Path(sources[0].file_name).parent
        mask_of(first, {}, first.stem, place)
    strays = [path for path in images_below(masks, None) if path not in taken]
    _warn("images", "mask", [source.file_name for source in alone], pictures)
    _warn("masks", "image", [path.relative_to(masks).as_posix() for path in strays], masks)
    return [(source, mask) for mask, source in taken.items()], Unpaired(len(alone), len(strays))


def _folded(masks: Iterable[Path]) -> dict[str, list[Path]]:
    """Return masks by the names of images that they may be of, in small letters."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in masks:
        name = path.stem.casefold()
        found[name].append(path)
        short = _ENDING.sub("", name)
        if short != name:
            found[short].append(path)
    return found


def _warn(what: str, lack: str, names: Sequence[str], folder: Path) -> None:
    if names:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        warnings.warn(
            f"{len(names)} {what if len(names) > 1 else what[:-1]} of {str(folder)!r} without "
            f"{lack}, left out: {shown}",
            NexusWarning,
            stacklevel=2,
        )
