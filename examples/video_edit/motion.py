"""How the ground of a clip moves between two frames, told by features outside the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_LEAST_MATCHES = 12
_INLIER_PX = 2.0


@dataclass(frozen=True)
class View:
    """A frame with a hole where the object is.

    Attributes:
        frame: (H, W, 3) uint8 RGB.
        hole: (H, W) bool.
        points: (N, 2) places of features outside the hole.
        features: (N, 32) ORB descriptors; None if there are none.
    """

    frame: NDArray[np.uint8]
    hole: NDArray[np.bool_]
    points: NDArray[np.float32]
    features: Any


def view(
    frame: NDArray[np.uint8], mask: NDArray[np.bool_], grow_px: int, below_px: int = 0
) -> View:
    """Return a frame whose hole is the object's mask, grown to all sides, and further down.

    Args:
        frame: (H, W, 3).
        mask: (H, W).
        grow_px: The rim of an object, and its blur, are often outside its mask.
        below_px: What is below an object is often its shadow.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow_px + 1,) * 2)
    column = np.ones((below_px + 1, 1), np.uint8)
    hole = cv2.dilate(cv2.dilate(mask.astype(np.uint8), kernel), column, anchor=(0, below_px))
    hole = np.asarray(hole, np.uint8)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    corners, features = cv2.ORB.create(2000).detectAndCompute(grey, (1 - hole) * np.uint8(255))
    points = np.array([corner.pt for corner in corners], np.float32)
    return View(frame, hole > 0, points, features)


def homography(one: View, other: View) -> NDArray[np.float64] | None:
    """Return the 3 x 3 map of points of one frame to those of another; None if there is none."""
    if one.features is None or other.features is None:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one.features, other.features)
    if len(matches) < _LEAST_MATCHES:
        return None
    source = one.points[[match.queryIdx for match in matches]]
    target = other.points[[match.trainIdx for match in matches]]
    motion, inliers = cv2.findHomography(source, target, cv2.RANSAC, _INLIER_PX)
    if motion is None or int(np.count_nonzero(inliers)) < _LEAST_MATCHES:
        return None
    return np.asarray(motion, np.float64)
