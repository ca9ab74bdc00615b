"""Replace what is behind an object in a clip by a colour, a picture, or itself out of focus.

Needs PyAV. Sound is not kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from examples.video_edit.clip import write_clip
from examples.video_edit.masks import ObjectMasks, add_arguments
from nexus.cli.main import run_script
from nexus.data.images.loading import load_image
from nexus.data.video.opening import open_video

Frame = NDArray[np.uint8]


def ground(what: str, size_hw: tuple[int, int]) -> Callable[[Frame, NDArray[np.bool_]], Frame]:
    """Return what makes the new ground of a frame and the object's mask on it.

    Args:
        what: 'blur', a colour as R,G,B, or the path of a picture, which is cut to fit.
        size_hw: Of the frames.
    """
    if what == "blur":
        return lambda frame, mask: blurred(frame, ~mask, size_hw[0] / 40)
    if Path(what).exists():
        picture = Image.fromarray(load_image(what))
        still = np.asarray(ImageOps.fit(picture, size_hw[::-1]))
    else:
        still = np.full((*size_hw, 3), [int(part) for part in what.split(",")], np.uint8)
    return lambda frame, mask: still


def blurred(frame: Frame, kept: NDArray[np.bool_], radius_px: float) -> Frame:
    """Blur the kept pixels alone, so that the object leaves no halo of its colours."""
    blur = ImageFilter.GaussianBlur(radius_px)
    colors, share = (
        np.asarray(Image.fromarray(part).filter(blur), np.float32)
        for part in (frame * kept[..., None], kept * np.uint8(255))
    )
    return (colors / np.maximum(share, 1)[..., None] * 255).clip(0, 255).astype(np.uint8)


def compose(frame: Frame, mask: NDArray[np.bool_], behind: Frame, feather_px: float) -> Frame:
    """Lay the object of a frame over another ground, its edge `feather_px` soft."""
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), feather_px / 2)[..., None]
    mixed = alpha * frame + (1 - alpha) * behind
    return np.asarray(mixed.round(), np.uint8)


def main() -> None:
    """Write the clip with another ground."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--ground", default="blur", help="blur; R,G,B; or a picture file")
    parser.add_argument("--feather", type=float, default=2, help="softness of the edge, pixels")
    args = parser.parse_args()
    with open_video(args.video) as video:
        make, masks = ground(args.ground, video.size_hw), ObjectMasks(video, args)

        def edited(index: int) -> Frame:
            frame = video.frame(index)
            return compose(frame, masks[index], make(frame, masks[index]), args.feather)

        write_clip(args.out, video.size_hw, video, edited)


if __name__ == "__main__":
    run_script(main)
