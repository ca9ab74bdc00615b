"""The surface that runs between voxels, in elements of known area.

Around every corner of the voxel grid lie 2 x 2 (x 2) voxels. Where some of them are in the mask and
some are not, the corner carries a surface element: the marching-cubes surface through the middles
of the edges that join a voxel inside to one outside. Its length (in 2-D) or area depends on the
pattern and the spacing only. A polygon that is not flat is cut into the triangles that give it the
largest area at a spacing of 1. The areas are then those of DeepMind's surface-distance package,
made for Nikolov et al., arXiv 1809.04430.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nexus.eval.metrics.overlap import Mask

_Corner = tuple[int, ...]
_Point = tuple[float, ...]
_Simplex = tuple[_Point, ...]


def surface_elements(
    mask: Mask, steps: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return where the surface of a mask runs, and how much of it is there.

    The mask has 2 or 3 axes, with background outside; `steps` is the spacing along each, mm.

    Returns:
        (n, axes) corners of the voxel grid, and (n,) lengths in mm or areas in mm^2.

    Examples:
        >>> points, lengths = surface_elements(np.ones((1, 2), bool), np.array([1.0, 1.0]))
        >>> len(points), float(lengths.sum().round(3))
        (6, 4.828)
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    size = tuple(side - 1 for side in padded.shape)
    codes = np.zeros(size, np.uint8)
    for bit, corner in enumerate(_corners(mask.ndim)):
        window = tuple(slice(at, at + side) for at, side in zip(corner, size, strict=True))
        codes |= padded[window] << bit
    patterns, simplices = _table(mask.ndim)
    sizes = np.zeros(2 ** len(_corners(mask.ndim)))  # of the element of each pattern of voxels
    np.add.at(sizes, patterns, _simplex_sizes(simplices * steps))
    points = np.argwhere((codes > 0) & (codes < len(sizes) - 1))
    return points, sizes[codes[tuple(points.T)]]


@lru_cache
def _table(axes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the simplices of all patterns, (S, axes points, axes), with their patterns, (S,)."""
    corners = _corners(axes)
    found = []
    for code in range(2 ** len(corners)):
        inside = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
        if len(inside) > len(corners) // 2:
            inside = set(corners) - inside
        found += [(code, simplex) for part in _connected(inside) for simplex in _cut(part, axes)]
    codes, simplices = zip(*found, strict=True)
    return np.array(codes), np.array(simplices)


@lru_cache
def _corners(axes: int) -> tuple[_Corner, ...]:
    return tuple(itertools.product((0, 1), repeat=axes))


def _connected(corners: set[_Corner]) -> list[set[_Corner]]:
    """Split corners into parts that hang together along edges of the cube."""
    parts: list[set[_Corner]] = []
    for corner in sorted(corners):
        near = [part for part in parts if any(_is_edge(corner, other) for other in part)]
        parts = [part for part in parts if part not in near]
        parts.append({corner}.union(*near))
    return parts


def _is_edge(corner: _Corner, other: _Corner) -> bool:
    return sum(a != b for a, b in zip(corner, other, strict=True)) == 1


def _cut(part: set[_Corner], axes: int) -> list[_Simplex]:
    """Return the simplices that part connected corners, half of them at most, from the others."""
    if axes == 2:
        return [tuple(_crossings(part, _corners(2)))]
    neighbours: dict[_Point, list[_Point]] = {}
    for axis, side in itertools.product(range(3), (0, 1)):
        face = tuple(corner for corner in _corners(3) if corner[axis] == side)
        for start, end in itertools.permutations(_crossings(part, face), 2):
            neighbours.setdefault(start, []).append(end)
    ring = [next(iter(neighbours))]
    while len(ring) < len(neighbours):
        ring.append(next(point for point in neighbours[ring[-1]] if point not in ring))
    return max(_triangulations(ring), key=lambda cut: _simplex_sizes(np.array(cut)).sum())


def _crossings(part: set[_Corner], corners: tuple[_Corner, ...]) -> list[_Point]:
    """Return the middles of the edges between the part and the other corners."""
    return [
        tuple((a + b) / 2 for a, b in zip(inside, outside, strict=True))
        for inside in corners
        for outside in corners
        if inside in part and outside not in part and _is_edge(inside, outside)
    ]


def _triangulations(ring: list[_Point]) -> Iterator[list[_Simplex]]:
    """Yield every way to cut a polygon into triangles between its corners."""
    if len(ring) < 3:
        yield []
        return
    for middle in range(1, len(ring) - 1):
        triangle = (ring[0], ring[middle], ring[-1])
        for before in _triangulations(ring[: middle + 1]):
            for after in _triangulations(ring[middle:]):
                yield [triangle, *before, *after]


def _simplex_sizes(simplices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths of segments (S, 2, 2), or areas of triangles (S, 3, 3)."""
    edges = simplices[:, 1:] - simplices[:, :1]
    if edges.shape[1] == 1:
        return np.asarray(np.linalg.norm(edges[:, 0], axis=1))
    return np.asarray(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2)
