"""Remove an object from a clip: what it hides is taken from frames in which it is elsewhere.

Needs opencv-python-headless and PyAV. The ground is taken for a plane, so that a homography says
how it moves; what no frame shows is inpainted. Shadows and reflections stay. Sound is not kept.
"""

from __future__ import annotations

import argparse
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.video_edit.clip import write_clip
from examples.video_edit.masks import ObjectMasks, add_arguments
from examples.video_edit.motion import View, homography, view
from nexus.cli.main import run_script
from nexus.data.video.opening import open_video
from nexus.data.video.source import VideoSource


class Remover:
    """Fills the hole an object leaves in a frame.

    Args:
        video: A clip whose frames can be had in any order.
        masks: Of the object.
        grow_px: By how much to grow the mask to all sides, and then downward.
        step: Every so many frames one gives its ground to others; few of them flicker less.
    """

    def __init__(
        self, video: VideoSource, masks: ObjectMasks, grow_px: tuple[int, int], step: int
    ) -> None:
        self.givers = range(0, video.frame_count or 0, step)

        @lru_cache(maxsize=len(self.givers) + 1)
        def look(index: int) -> View:
            return view(video.frame(index), masks[index], *grow_px)

        self.look = look

    def filled(self, index: int) -> NDArray[np.uint8]:
        """Return a frame without the object; the nearest frames give first."""
        here = self.look(index)
        result, left = here.frame.copy(), here.hole.copy()
        size_wh = (here.frame.shape[1], here.frame.shape[0])
        for number in sorted(self.givers, key=lambda giver: abs(giver - index)):
            if not left.any():
                break
            giver = self.look(number)
            motion = None if number == index else homography(giver, here)
            if motion is None:
                continue
            shown = (~giver.hole).astype(np.uint8) * 255
            take = left & (np.asarray(cv2.warpPerspective(shown, motion, size_wh)) == 255)
            result[take] = np.asarray(cv2.warpPerspective(giver.frame, motion, size_wh))[take]
            left &= ~take
        painted = cv2.inpaint(result, left.astype(np.uint8), 5, cv2.INPAINT_TELEA)
        return np.asarray(painted, np.uint8)


def main() -> None:
    """Write the clip without the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--grow", type=int, default=7, help="pixels added around the mask")
    parser.add_argument("--below", type=int, default=0, help="further ones below, for a shadow")
    parser.add_argument("--step", type=int, default=8, help="frames between two that give ground")
    args = parser.parse_args()
    with open_video(args.video) as video:
        remover = Remover(video, ObjectMasks(video, args), (args.grow, args.below), args.step)
        write_clip(args.out, video.size_hw, video, remover.filled)


if __name__ == "__main__":
    run_script(main)
