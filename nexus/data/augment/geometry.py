"""One 3x3 matrix that moves an image, its masks, boxes and points together.

A matrix takes x, y, 1 of the source to the output, both in pixel edges: the pixel in column 0 and
row 0 covers [0, 1] x [0, 1]. Boxes are in these coordinates. Points are on pixels, so that (0, 0)
is the middle of that pixel and half a pixel is added before a matrix and taken off after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from nexus.core.errors import InputError
from nexus.ops.boxes import tight_box

Matrix: TypeAlias = "NDArray[np.float64]"

# Half of the largest value a mask has while Pillow interpolates it.
_INSIDE = 128

_SMALLEST_SCALE = 1e-6


@dataclass(frozen=True, eq=False)
class Warp:
    """How pixels of a source lie in an output.

    Attributes:
        matrix: (3, 3) from x, y, 1 of the source to the output, in pixel edges.
        size_hw: Height and width of the output, pixels.

    Raises:
        InputError: Another shape, a last row that is not 0, 0, 1, a matrix that cannot be undone,
            or an output without pixels.
    """

    matrix: Matrix
    size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        matrix, wanted = np.asarray(self.matrix, np.float64), None
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            wanted = "a finite matrix of shape (3, 3)"
        elif matrix[2].tolist() != [0.0, 0.0, 1.0]:
            wanted = "a matrix whose last row is 0, 0, 1"
        elif abs(np.linalg.det(matrix)) < _SMALLEST_SCALE**2:
            wanted = "a matrix that can be undone"
        if wanted:
            raise InputError(f"expected {wanted}, got {matrix.tolist()}")
        if min(self.size_hw) < 1:
            raise InputError(f"expected an output of at least 1 x 1 pixels, got {self.size_hw}")
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls, size_hw: tuple[int, int]) -> Warp:
        """Return the warp that changes nothing."""
        return cls(np.eye(3), size_hw)

    def then(self, step: Warp) -> Warp:
        """Return this warp followed by another one."""
        return Warp(step.matrix @ self.matrix, step.size_hw)

    def changes(self, size_hw: tuple[int, int]) -> bool:
        """Say whether a source of this size would come out differently."""
        return self.size_hw != size_hw or not np.array_equal(self.matrix, np.eye(3))

    def points(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Move points (N, 2) that are on pixels; those that leave the output are kept."""
        return self._moved(np.asarray(points_xy, np.float64).reshape(-1, 2) + 0.5) - 0.5

    def box(self, box_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Return (4,) x0, y0, x1, y1 around the corners of a box, clipped to the output.

        A box that leaves the output collapses to no area.
        """
        x0, y0, x1, y1 = np.asarray(box_xyxy, np.float64)
        moved = self._moved(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        edges = np.concatenate([moved.min(0), moved.max(0)])
        return np.asarray(np.clip(edges, 0.0, np.tile(self.size_hw[::-1], 2)), np.float64)

    def image(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Move an image (H, W, 3) by bilinear interpolation; what was not in it is its mean colour.

        The mean changes neither the lowest nor the highest value, by which some models normalise.
        """
        if not self.changes((image.shape[0], image.shape[1])):
            return image
        fill = image.reshape(-1, image.shape[2]).mean(0, dtype=np.float64)
        if image.dtype == np.uint8:
            colour = tuple(round(float(value)) for value in fill)
            return np.array(self._resampled(Image.fromarray(np.ascontiguousarray(image)), colour))
        planes = [
            np.asarray(self._resampled(Image.fromarray(plane.astype(np.float32)), float(value)))
            for plane, value in zip(np.moveaxis(image, 2, 0), fill, strict=True)
        ]
        moved = np.stack(planes, axis=2)
        if np.issubdtype(image.dtype, np.integer):
            moved = moved.round()
        return moved.astype(image.dtype)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Move a mask (H, W): a pixel is in where the mask, interpolated bilinearly, is above half.

        What was not in the source is background. Only the part of the output that the object can
        reach is computed.
        """
        if not self.changes((mask.shape[0], mask.shape[1])):
            return mask
        moved = np.zeros(self.size_hw, np.bool_)
        left, top, right, bottom = tight_box(mask)
        if right == left:
            return moved
        # Interpolation carries a mask up to half a source pixel past its last one.
        reach = self.box((left - 1, top - 1, right + 1, bottom + 1))
        x0, y0 = (math.floor(edge) for edge in reach[:2])
        x1, y1 = (math.ceil(edge) for edge in reach[2:])
        if x1 <= x0 or y1 <= y0:
            return moved
        part = Warp(shift(-x0, -y0) @ self.matrix, (y1 - y0, x1 - x0))
        source = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
        moved[y0:y1, x0:x1] = np.asarray(part._resampled(source, 0)) >= _INSIDE
        return moved

    def _moved(self, edges_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(edges_xy @ self.matrix[:2, :2].T + self.matrix[:2, 2], np.float64)

    def _resampled(self, picture: Image.Image, fill: float | tuple[int, ...]) -> Image.Image:
        """Draw a picture in the output; Pillow asks where each pixel's middle comes from."""
        size = (self.size_hw[1], self.size_hw[0])
        source = np.linalg.inv(self.matrix)[:2].ravel().tolist()
        kind, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        return picture.transform(size, kind, source, filter_, fillcolor=fill)


def shift(x_px: float, y_px: float) -> Matrix:
    """Return the matrix that moves everything right and down."""
    return np.array([[1.0, 0.0, x_px], [0.0, 1.0, y_px], [0.0, 0.0, 1.0]])


def about(matrix: Matrix, centre_xy: tuple[float, float]) -> Matrix:
    """Return a matrix that does the same around a centre, in pixel edges, as it does around 0."""
    x, y = centre_xy
    return np.asarray(shift(x, y) @ matrix @ shift(-x, -y), np.float64)


def flip(size_hw: tuple[int, int], *, x: bool, y: bool) -> Matrix:
    """Return the matrix that mirrors an image left to right, upside down, or both."""
    height, width = size_hw
    matrix = np.eye(3)
    if x:
        matrix[0] = -1.0, 0.0, width
    if y:
        matrix[1] = 0.0, -1.0, height
    return matrix


def rotation(degrees: float) -> Matrix:
    """Return the matrix that turns around 0, clockwise on the screen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def zoom(factor: float) -> Matrix:
    """Return the matrix that makes everything larger by a factor, away from 0."""
    return np.diag([factor, factor, 1.0])
