"""SA-1B: a JSON file of masks beside each image.

The format: https://github.com/facebookresearch/segment-anything#dataset (`sa_1.jpg` and
`sa_1.json`, with `image` and `annotations` whose masks are COCO RLE; no classes).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nexus.core.errors import InputError
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth, tight_box
from nexus.data.truth.layout import check_size, folder_at, pictures_in, read_document, require
from nexus.ops.rle import decode_rle

_HINT = "SA-1B has sa_1.jpg and sa_1.json side by side, in one folder or in folders sa_000000, ..."


def open_sa1b(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the images that have a JSON file beside them, in the order of their names.

    Boxes are tight around the masks: the `bbox` of the file counts from inclusive pixels, and is a
    pixel short at the right and bottom.

    Args:
        root: The folder of the files, or of folders of files.
        split: One of these folders; None for all.

    Raises:
        InputError: No such folder, no JSON file, or one without its image.
    """
    top = folder_at(root if split is None else root / split, _HINT)
    folders = [top, *sorted(path for path in top.iterdir() if path.is_dir())]
    images = []
    for folder in folders:
        pictures = pictures_in(folder)
        for path in sorted(folder.glob("*.json")):
            image = pictures.get(path.stem)
            if image is None:
                raise InputError(
                    f"expected an image beside {str(path)!r}, got none named {path.stem!r}",
                    hint=_HINT,
                )
            name = image.relative_to(root).as_posix()
            truths = partial(_truths, path, image)
            images.append(LabelledImage(name, partial(load_image, image), truths))
    if not images:
        raise InputError(f"expected JSON files in {str(top)!r}, got none", hint=_HINT)
    return images


def _truths(path: Path, image: Path) -> list[Truth]:
    document = read_document(path, image=dict, annotations=list)
    truths = []
    for annotation in document["annotations"]:
        require(annotation, path, id=int, segmentation=dict)
        mask = decode_rle(annotation["segmentation"])
        check_size(mask.shape, image, path)
        if mask.any():
            truths.append(Truth(annotation["id"], mask, tight_box(mask)))
    return sorted(truths, key=lambda truth: truth.object_id)
