"""Formats with one file of all images: a flat list of records, Label Studio's and CVAT's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from nexus.core.files import write_text, writing
from nexus.core.json_text import write_array
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.ops.rle import decode_rle, run_lengths

IMAGE_URL = "/data/local-files/?d="
"""What stands before an image's path in a task of Label Studio."""

_RECORD_KEYS = ("bbox", "area", "segmentation", "predicted_iou", "stability_score")
_CHANNELS = 4
_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST = 1 << _LENGTH_BITS[-1]


def write_records(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `annotations.json`, a list of `flat_records`."""
    target = folder / "annotations.json"
    with writing(target) as stream:
        write_array(stream, flat_records(dataset))
    yield target


def flat_records(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yield a record of each mask of each image, in order, as programs like to read it.

    Keys: `image_id` (the image's name), `mask_id` (from 0 in each image), `bbox`, `area`,
    `segmentation` (compressed COCO RLE), `predicted_iou`, `stability_score`; and `category`, where
    there are several.
    """
    for image in dataset.images:
        for number, mask in enumerate(image.masks):
            record = {key: mask[key] for key in _RECORD_KEYS}
            if len(dataset.categories) > 1:
                record["category"] = dataset.categories[mask["category_id"] - 1]
            yield {"image_id": image.source.name, "mask_id": number, **record}


def write_labelstudio(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `tasks.json`, with brush masks as predictions, and `label_config.xml` to set them up.

    Follows https://labelstud.io/guide/predictions and https://labelstud.io/tags/brushlabels. The
    images are named as local storage serves them, `/data/local-files/?d=PATH` with the path below
    the folder that is its document root (https://labelstud.io/guide/storage).
    """
    target = folder / "tasks.json"
    with writing(target) as stream:
        tasks = (_task(number, image, dataset) for number, image in enumerate(dataset.images, 1))
        write_array(stream, tasks)
    yield target
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.categories)
    yield write_text(
        folder / "label_config.xml",
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n',
    )


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Encode an (H, W) bool mask as Label Studio's brush does; a list of bytes.

    A mask is RGBA bytes in rows, all four 255 on the mask and 0 beside it, run-length encoded bit
    by bit with the scheme of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack: 32
    bits with the number of values, 5 with the bits of a value less 1, four times 4 with the bits of
    a run's length less 1; then for each run a 1, two bits that choose one of the four, the length
    less 1, and the value.
    """
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
    results = [
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
    ]
    score = sum(mask["predicted_iou"] for mask in image.masks) / max(1, len(image.masks))
    made = {"model_version": dataset.description, "score": score, "result": results}
    url = IMAGE_URL + quote(image.source.file_name)
    return {"id": number, "data": {"image": url}, "predictions": [made]}


def write_cvat(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `annotations.xml`, CVAT for images 1.1.

    Follows https://docs.cvat.ai/docs/manual/advanced/xml_format/: a `mask` has `left`, `top`,
    `width` and `height` in pixels, and `rle`, the lengths of its runs of background and foreground
    inside that box, row by row, background first. CVAT matches images by `name`.
    """
    target, size = folder / "annotations.xml", sum(1 for _ in dataset.images)
    labels = "".join(
        f"        <label>\n          <name>{escape(name)}</name>\n          <type>mask</type>\n"
        "          <attributes>\n          </attributes>\n        </label>\n"
        for name in dataset.categories
    )
    with writing(target) as stream:
        stream.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
            f"  <meta>\n    <task>\n      <name>{escape(dataset.description)}</name>\n"
            f"      <size>{size}</size>\n      <mode>annotation</mode>\n"
            f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
        )
        for number, image in enumerate(dataset.images):
            stream.writelines(_cvat_image(number, image, dataset.categories))
        stream.write("</annotations>\n")
    yield target


def _cvat_image(number: int, image: DatasetImage, categories: tuple[str, ...]) -> Iterator[str]:
    height, width = image.size_hw
    name = quoteattr(image.source.file_name)
    yield f'  <image id="{number}" name={name} width="{width}" height="{height}">\n'
    for order, mask in enumerate(image.masks):
        label = quoteattr(categories[mask["category_id"] - 1])
        x0, y0, x1, y1 = mask["box_xyxy"]
        lengths = run_lengths(decode_rle(mask["segmentation"])[y0:y1, x0:x1].ravel())
        yield (
            f'    <mask label={label} source="auto" occluded="0" '
            f'rle="{", ".join(map(str, lengths.tolist()))}" '
            f'left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}" z_order="{order}">\n'
            "    </mask>\n"
        )
    yield "  </image>\n"
