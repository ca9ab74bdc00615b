"""CVAT for images 1.1: one XML file of images and their masks.

Follows https://docs.cvat.ai/docs/manual/advanced/xml_format/: a `mask` has `left`, `top`, `width`
and `height` in pixels, and `rle`, the lengths of its runs of background and foreground inside that
box, row by row, background first. CVAT matches images by `name`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

from nexus.core.files import writing
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.ops.rle import decode_rle, run_lengths


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `annotations.xml`."""
    target = folder / "annotations.xml"
    with writing(target) as stream:
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        stream.write("  <version>1.1</version>\n")
        stream.write(_meta(dataset))
        for number, image in enumerate(dataset.images):
            _write_image(stream, number, image, dataset)
        stream.write("</annotations>\n")
    yield target


def _meta(dataset: Dataset) -> str:
    size = sum(1 for _ in dataset.images)
    labels = "".join(
        f"        <label>\n          <name>{escape(name)}</name>\n          <type>mask</type>\n"
        "          <attributes>\n          </attributes>\n        </label>\n"
        for name in dataset.categories
    )
    return (
        f"  <meta>\n    <task>\n      <name>{escape(dataset.description)}</name>\n"
        f"      <size>{size}</size>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )


def _write_image(stream: TextIO, number: int, image: DatasetImage, dataset: Dataset) -> None:
    height, width = image.size_hw
    stream.write(
        f'  <image id="{number}" name={quoteattr(image.source.file_name)} '
        f'width="{width}" height="{height}">\n'
    )
    for order, mask in enumerate(image.masks):
        label = quoteattr(dataset.categories[mask["category_id"] - 1])
        x0, y0, x1, y1 = mask["box_xyxy"]
        stream.write(
            f'    <mask label={label} source="auto" occluded="0" rle="{_runs(mask)}" '
            f'left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}" z_order="{order}">\n'
            "    </mask>\n"
        )
    stream.write("  </image>\n")


def _runs(mask: Mapping[str, Any]) -> str:
    """Return the runs inside the mask's box, row by row, background first."""
    x0, y0, x1, y1 = mask["box_xyxy"]
    flat = decode_rle(mask["segmentation"])[y0:y1, x0:x1].ravel()  # (h * w,)
    return ", ".join(map(str, run_lengths(flat).tolist()))
