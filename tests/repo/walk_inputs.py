"""Pictures, clips and sets of the names that the documents use, drawn anew: a user's own folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nexus.data.video.video_writer import VideoWriter
from tests.train.moving_square import draw_davis
from tests.train.tiny_run import draw_set
from tools.doc_blocks import ROOT, blocks

CLIP_FRAMES = 44
SIDE_PX, BLOB_PX = 96, 9


def picture(path: Path, size_wh: tuple[int, int] = (700, 540)) -> None:
    """Draw a bright ellipse within (80, 50, 240, 190) and a larger one, on a dark ground."""
    image = Image.new("RGB", size_wh, (40, 40, 48))
    draw = ImageDraw.Draw(image)
    draw.ellipse((250, 210, 420, 330), fill=(120, 200, 150))
    draw.ellipse((80, 50, 240, 190), fill=(205, 190, 170))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def cup(path: Path) -> None:
    """Draw the mask of an object of a clip."""
    image = Image.new("L", (320, 240))
    ImageDraw.Draw(image).rectangle((250, 150, 300, 220), fill=255)
    image.save(path)


def clip(path: Path) -> None:
    """Draw a bright square that wanders to the right over noise, in more than 40 frames."""
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, (240, 320), rate=12) as writer:
        for t in range(CLIP_FRAMES):
            frame = random.integers(0, 60, (240, 320, 3), dtype=np.uint8)
            frame[60:180, 90 + t : 210 + t] = (210, 190, 80)
            writer.write(frame)


def clips(folder: Path) -> None:
    """Draw two clips of the names that the file of prompts has."""
    clip(folder / "a.mp4")
    shutil.copy(folder / "a.mp4", folder / "b.mp4")


def blobs(folder: Path, names: tuple[str, ...] = ("a", "b"), masks: Path | None = None) -> None:
    """Draw pictures of bright round blobs, and their label maps where they are asked for."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for each in filter(None, (folder, masks)):
        each.mkdir(parents=True, exist_ok=True)
    for name in names:
        labels = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        for number, (cx, cy) in enumerate(((20, 22), (60, 30), (38, 70)), 1):
            labels[(x - cx) ** 2 + (y - cy) ** 2 < BLOB_PX**2] = number
        Image.fromarray((30 + 170 * (labels > 0)).astype(np.uint8)).save(folder / f"{name}.png")
        if masks is not None:
            Image.fromarray(labels).save(masks / f"{name}.png")


def images(folder: Path) -> None:
    """Draw the pictures that the tables of boxes and objects name."""
    for name in ("a.png", "b.png"):
        picture(folder / name)


def few(folder: Path) -> None:
    """Draw a labelled set of a few pictures."""
    draw_set(folder, images=4)


def coco(folder: Path) -> None:
    """Draw a set in COCO's layout: a picture with a rectangle."""
    picture(folder / "val2017" / "1.jpg", (320, 240))
    image = {"id": 1, "file_name": "1.jpg", "width": 320, "height": 240}
    corners = [80, 50, 240, 50, 240, 190, 80, 190]
    record = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 160 * 140}
    record |= {"bbox": [80, 50, 160, 140], "segmentation": [corners]}
    document = {"images": [image], "annotations": [record]}
    path = folder / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**document, "categories": [{"id": 1, "name": "dish"}]}))


def from_page(page: str, language: str, word: str) -> Callable[[Path], None]:
    """Return what writes the first block of a language in a page of docs/ that has a word."""

    def write(path: Path) -> None:
        found = [b.code for b in blocks(ROOT / "docs" / page, language) if word in b.code]
        path.write_text(found[0])

    return write


INPUTS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("image.png", "scan.png", "a.png", "b.png", "wall.jpg", "photo.jpg"), picture),
    "more/a.png": picture,
    "cup.png": cup,
    "clip.mp4": clip,
    "clips": clips,
    "scans": blobs,
    "images": images,
    "coco": coco,
    "DAVIS": lambda folder: draw_davis(folder, ("one", "two", "three", "four")),
    **dict.fromkeys(("polyps", "heart", "data/kvasir", "data/acdc", "pictures/polyps"), few),
    "prompts.csv": from_page("video.md", "text", "clip,object,frame"),
    "boxes.csv": from_page("datasets.md", "text", "image,x0,y0,x1,y1,category"),
    "objects.csv": from_page("cli.md", "text", "image,object,x0"),
    "run.yaml": from_page("training.md", "yaml", "pictures"),
}
"""What makes each file or folder that a document takes to be there."""

OF_PAGE: dict[str, dict[str, Callable[[Path], None]]] = {
    "nuclei.md": {
        "images": lambda folder: blobs(folder, ("NAME", "b"), folder.parent / "masks"),
    },
}
"""The same, for a page that means something else by a name."""


def draw_inputs(folder: Path, page: str, lines: str) -> None:
    """Make, in an empty folder, whatever the lines of a page name and `INPUTS` knows."""
    for name, draw in {**INPUTS, **OF_PAGE.get(page, {})}.items():
        if name.split("/")[0] in lines or (name == "cup.png" and "prompts.csv" in lines):
            draw(folder / name)
    if "run.yaml" in lines:
        few(folder / "pictures" / "polyps")
