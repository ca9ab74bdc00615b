"""Find where nuclei are without a model: Otsu's threshold, components, touching ones parted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nexus.ops.components import components, fill_holes, remove_small_regions

Labels = NDArray[np.int64]  # (H, W): 0 background, 1..n nuclei


def otsu(grey: NDArray[Any]) -> float:
    """Return the grey value that parts pixels into two groups of the most different means.

    After Otsu, "A threshold selection method from gray-level histograms", 1979: the variance
    between the groups is the largest.
    """
    counts, edges = np.histogram(grey, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = grey.size - below
    sums = np.cumsum(counts * middles)
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1 + np.argmax(between)])


def find_seeds(image: NDArray[Any], *, min_area: int = 20, split: bool = True) -> Labels:
    """Label the nuclei of an image, whether they are bright on dark or dark on bright.

    Args:
        image: (H, W, 3). The side of the threshold that has more of the border is the ground.
        min_area: Smaller parts are specks, pixels.
        split: Part components that look like several nuclei.
    """
    grey = image.mean(axis=2)
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.int64)
    mask = grey >= otsu(grey)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if border.mean() > 0.5:
        mask = ~mask
    labels, areas = components(remove_small_regions(fill_holes(mask), min_area), connectivity=4)
    if split and len(areas) > 1:
        return split_touching(labels, usual_radius=float(np.sqrt(np.median(areas[1:]) / np.pi)))
    return labels.astype(np.int64)


def split_touching(labels: NDArray[Any], usual_radius: float) -> Labels:
    """Part each component between the points that are innermost within half a usual radius.

    Args:
        labels: (H, W), components of nuclei.
        usual_radius: Of a nucleus, pixels.
    """
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(labels), 1.0)
    innermost = depth == ndimage.maximum_filter(depth, 2 * int(usual_radius / 2) + 1)
    parted = np.zeros(labels.shape, np.int64)
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        own = labels[place] == number
        peaks, count = ndimage.label(innermost[place] & own, np.ones((3, 3)))
        if count == 0:  # a deeper component lies within the window
            peaks, count = own.astype(np.int64), 1
        to_peak = ndimage.distance_transform_edt(
            peaks == 0, return_distances=False, return_indices=True
        )
        parted[place][own] = parted.max() + peaks[tuple(to_peak)][own]
    return parted
