"""Label Studio: tasks with brush masks as predictions, and the labelling set-up they are made for.

Follows https://labelstud.io/guide/predictions and https://labelstud.io/tags/brushlabels. The images
are named as local storage serves them, `/data/local-files/?d=PATH` with the path below the folder
that is its document root (https://labelstud.io/guide/storage).

A mask is RGBA bytes in rows, all four 255 on the mask and 0 beside it, run-length encoded bit by
bit with the scheme of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack: 32 bits
with the number of values, 5 with the bits of a value less 1, four times 4 with the bits of a run's
length less 1; then for each run a 1, two bits that choose one of the four, the length less 1, and
the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from nexus.core.files import write_text, writing
from nexus.core.json_text import write_array
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.ops.rle import decode_rle, run_lengths

IMAGE_URL = "/data/local-files/?d="
"""What stands before an image's path in a task."""

_CHANNELS = 4
_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST = 1 << _LENGTH_BITS[-1]


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `tasks.json` and `label_config.xml`."""
    target = folder / "tasks.json"
    with writing(target) as stream:
        tasks = (_task(number, image, dataset) for number, image in enumerate(dataset.images, 1))
        write_array(stream, tasks)
    yield target
    yield write_text(folder / "label_config.xml", _config(dataset))


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Encode an (H, W) bool mask as Label Studio's brush does; a list of bytes."""
    lengths = run_lengths(mask.ravel()) * _CHANNELS  # row by row
    bits = [f"{mask.size * _CHANNELS:032b}", f"{_VALUE_BITS - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in _LENGTH_BITS]
    for place, length in enumerate(lengths.tolist()):
        value = str(place % 2) * _VALUE_BITS
        while length > 0:
            part = min(length, _LONGEST)
            choice = next(i for i, size in enumerate(_LENGTH_BITS) if part <= 1 << size)
            bits.append(f"1{choice:02b}{part - 1:0{_LENGTH_BITS[choice]}b}{value}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _task(number: int, image: DatasetImage, dataset: Dataset) -> dict[str, Any]:
    height, width = image.size_hw
    scores = [mask["predicted_iou"] for mask in image.masks]
    return {
        "id": number,
        "data": {"image": IMAGE_URL + quote(image.source.file_name)},
        "predictions": [
            {
                "model_version": dataset.description,
                "score": sum(scores) / len(scores) if scores else 0.0,
                "result": [
                    {
                        "id": f"{number}-{order}",
                        "type": "brushlabels",
                        "from_name": "label",
                        "to_name": "image",
                        "original_width": width,
                        "original_height": height,
                        "image_rotation": 0,
                        "score": mask["predicted_iou"],
                        "value": {
                            "format": "rle",
                            "rle": brush_rle(decode_rle(mask["segmentation"])),
                            "brushlabels": [dataset.categories[mask["category_id"] - 1]],
                        },
                    }
                    for order, mask in enumerate(image.masks, 1)
                ],
            }
        ],
    }


def _config(dataset: Dataset) -> str:
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.categories)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )
