"""Sets, split, views and objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.models.frame import geometry_of
from nexus.train.config import AugmentSettings, DataSettings, SetSettings
from nexus.train.images.sets import (
    View,
    _depth,
    gather_objects,
    object_views,
    sample_digest,
    split_images,
    views_of,
)
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
    return View(split_images(data)[0][0], name, data, augment or AugmentSettings(), 3)


def test_the_last_images_by_name_are_held_out(data: DataSettings) -> None:
    """Of seven images floor(2.1) are held out, of two none."""
    learnt, held_out = split_images(data)

    assert [image.name for image in held_out] == ["many/shape_5.png", "many/shape_6.png"]
    assert len(learnt) == 7
    assert learnt[-1].name == "few/shape_1.png"


def test_a_set_without_images_is_named(data: DataSettings, tmp_path: Path) -> None:
    """A folder that is not of the layout is an error that says where."""
    (tmp_path / "none" / "images").mkdir(parents=True)
    (tmp_path / "none" / "masks").mkdir()

    with pytest.raises(InputError, match="none"):
        split_images(dataclasses.replace(data, sets=(SetSettings("none"),)))


def test_the_largest_objects_count(data: DataSettings) -> None:
    """Objects come by size, those beyond the number or under the area are left out."""
    image = split_images(data)[0][0]
    both = image.chosen(data)

    assert len(both) == 2
    assert both[0].mask.sum() >= both[1].mask.sum()
    assert len(image.chosen(dataclasses.replace(data, most_objects=1))) == 1
    assert image.chosen(dataclasses.replace(data, min_area=1000)) == []


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
    image = split_images(data)[0][0]
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

    assert [len(one.views) for one in objects] == [2, 2]
    assert {one.object_id for one in objects} == {1, 2}
    with pytest.raises(InputError, match="at least one object to learn from, got none\nhint: low"):
        gather_objects([(pairs[0][0], {})])


@pytest.mark.parametrize("radius", range(1, 60))
def test_the_deepest_pixel_is_255(radius: int) -> None:
    """Whatever the size, depth is 255 where an object is deepest, above 0 on it, 0 beside it."""
    y, x = np.mgrid[:128, :128]
    disc = (y - 60) ** 2 + (x - 63) ** 2 <= radius**2

    depth = _depth(disc)

    assert depth.max() == 255
    assert np.array_equal(depth > 0, disc)
