"""Where the mask of an object in each frame comes from: a folder of label maps, or a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.progress import Progress
from nexus.data.images.masks import read_label_map
from nexus.data.video.source import VideoSource
from nexus.models.cv import SAM2, load_model
from nexus.ops.rle import decode_rle, encode_rle


def box(text: str) -> list[float]:
    """Parse x0,y0,x1,y1."""
    return [float(part) for part in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all scripts of this folder have."""
    parser.add_argument("video", help="a video file, or a folder of frames")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--masks", type=Path, help="folder with 00000.png, ... of nexus track")
    where.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="on the first frame, pixels")
    parser.add_argument("--model", default="sam2.1_hiera_tiny", help="to track what is in --box")
    parser.add_argument("--object", type=int, help="its number in --masks; if not given, all")
    parser.add_argument("--out", type=Path, required=True, metavar="MP4")


class ObjectMasks:
    """The mask of the object in each frame, kept as run lengths.

    Args:
        video: The frames.
        args: What `add_arguments` parsed.

    Raises:
        InputError: A folder without masks, or a model that does not track.
    """

    def __init__(self, video: VideoSource, args: argparse.Namespace) -> None:
        self._size_hw = video.size_hw
        self._runs: dict[int, dict[str, Any]] = {}
        if args.masks:
            self._read(args.masks, args.object)
        else:
            self._track(video, args)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        if index not in self._runs:
            return np.zeros(self._size_hw, np.bool_)
        return decode_rle(self._runs[index])

    def _read(self, folder: Path, number: int | None) -> None:
        paths = {int(path.stem): path for path in folder.glob("*.png") if path.stem.isdigit()}
        if not paths:
            raise InputError(f"expected PNGs named by frame number, got none in {str(folder)!r}")
        for index, path in paths.items():
            labels = read_label_map(path).labels
            self._runs[index] = encode_rle(labels > 0 if number is None else labels == number)

    def _track(self, video: VideoSource, args: argparse.Namespace) -> None:
        model = load_model(args.model)
        if not isinstance(model, SAM2):
            raise InputError(f"expected a SAM 2 or EdgeTAM for a video, got {args.model!r}")
        with model.video(video) as session, Progress(video.frame_count, label="track") as progress:
            session.add(frame_index=0, object_id=1, box=args.box)
            for frame in session.propagate():
                self._runs[frame.index] = encode_rle(frame.mask(1))
                progress.advance()
