"""Sets, split, views and objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.truth import open_images
from nexus.models.frame import geometry_of
from nexus.train.config import AugmentSettings, DataSettings, SetSettings
from nexus.train.images.sets import (
    View,
    counted_truths,
    gather_objects,
    object_views,
    sample_digest,
    views_of,
)
from nexus.train.sets import split_sets
from tests.models.tiny import TINY_POLICY
from tests.train.tiny_run import draw_set

ALL = ("plain", "mirrored", "upside_down", "turned_90", "turned_180", "turned_270")


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    """Settings over two drawn sets of seven and two images."""
    draw_set(tmp_path / "many", images=7)
    draw_set(tmp_path / "few", images=2)
    sets = (SetSettings("many"), SetSettings("few"))
    return DataSettings(sets, str(tmp_path), held_out=0.3, min_area=20)


def view(data: DataSettings, name: str, augment: AugmentSettings | None = None) -> View:
    """Return a view of the first image."""
    return View(split_sets(open_images, data)[0][0], name, data, augment or AugmentSettings(), 3)


def test_the_largest_objects_count(data: DataSettings) -> None:
    """Objects come by size, those beyond the number or under the area are left out."""
    image = split_sets(open_images, data)[0][0]
    both = counted_truths(image, data)

    assert len(both) == 2
    assert both[0].mask.sum() >= both[1].mask.sum()
    assert len(counted_truths(image, dataclasses.replace(data, most_objects=1))) == 1
    assert counted_truths(image, dataclasses.replace(data, min_area=1000)) == []


@pytest.mark.parametrize("name", ALL)
def test_lossless_views_keep_every_pixel(data: DataSettings, name: str) -> None:
    """Image and masks are turned alike, no pixel is lost, and views differ."""
    plain, turned = view(data, "plain").read(), view(data, name).read()

    assert plain.masks is not None
    assert turned.masks is not None
    assert turned.image.sum(dtype=int) == plain.image.sum(dtype=int)
    for mask, other in zip(plain.masks, turned.masks, strict=True):
        assert plain.image[mask].sum(dtype=int) == turned.image[other].sum(dtype=int)
    assert (name == "plain") == np.array_equal(plain.image, turned.image)


def test_random_views_are_drawn_once_for_all(data: DataSettings) -> None:
    """A random view is the same each time, another for another number, and names its objects."""
    image = split_sets(open_images, data)[0][0]
    augment = AugmentSettings(("plain",), random_views=2)
    plain, first, second = views_of(image, data, augment, 3)

    a, b, c = first.read(), first.read(), second.read()
    assert np.array_equal(a.image, b.image)
    assert not np.array_equal(a.image, c.image)
    assert set(a.object_ids.tolist()) <= {1, 2}
    assert sample_digest("x", a) == sample_digest("x", b) != sample_digest("x", c)
    assert sample_digest("x", plain.read()) != sample_digest("y", plain.read())


def test_an_object_is_ready_to_be_pointed_at(data: DataSettings) -> None:
    """Truth, depth, centre and box of the square of a drawn image are where it was drawn."""
    one = view(data, "plain")
    sample = one.read()
    geometry = geometry_of(sample.size_hw, TINY_POLICY)

    ready = object_views(one, "digest", sample, geometry, (16, 16))[2]

    assert sample.masks is not None
    mask = sample.masks[sample.object_ids.tolist().index(2)]
    x0, y0, x1, y1 = ready.box_xyxy
    assert mask[int(y0) : int(y1), int(x0) : int(x1)].all()
    assert mask.sum() == (x1 - x0) * (y1 - y0)
    assert mask[int(ready.centre_xy[1]), int(ready.centre_xy[0])]
    assert float(ready.truth.sum()) * 9 == pytest.approx(float(mask.sum()), rel=1e-3)
    assert ready.depth.max() == 255
    assert ((ready.depth > 0) == (ready.truth > 0.5)).all()
    assert ready.valid.min() == 1


def test_views_are_put_together(data: DataSettings) -> None:
    """Each object has its views; where there is none at all that is an error."""
    pairs = []
    for name in ("plain", "turned_90"):
        one = view(data, name)
        sample = one.read()
        geometry = geometry_of(sample.size_hw, TINY_POLICY)
        pairs.append((one, object_views(one, name, sample, geometry, (16, 16))))

    objects = gather_objects(pairs)

    assert [[seen.view.name for seen in one] for one in objects] == [["plain", "turned_90"]] * 2
    assert len({one[0].box_xyxy for one in objects}) == 2
    with pytest.raises(InputError, match="at least one object to learn from, got none\nhint: low"):
        gather_objects([(pairs[0][0], {})])
