"""What several tests of training begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.data.truth import open_images
from nexus.models.frame import geometry_of
from nexus.train.images.sets import (
    TrainingObject,
    gather_objects,
    object_views,
    views_of,
)
from nexus.train.sets import split_sets
from tests.models.tiny import TINY_POLICY
from tests.train.tiny_run import draw_set, tiny_settings


@pytest.fixture
def objects(tmp_path: Path) -> list[TrainingObject]:
    """The eight objects of four drawn images, in two views each."""
    draw_set(tmp_path / "shapes")
    settings = tiny_settings(tmp_path)
    images, _ = split_sets(open_images, settings.data)
    ready = []
    for image in images:
        for view in views_of(image, settings.data, settings.augment, 0):
            sample = view.read()
            geometry = geometry_of(sample.size_hw, TINY_POLICY)
            ready.append((view, object_views(view, "x", sample, geometry, (16, 16))))
    return gather_objects(ready)
