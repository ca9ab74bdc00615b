"""Automatic masks in processes that share the weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nexus.core.errors import ImageError, InputError, NexusError
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.parallel import generate_masks_parallel
from nexus.predict.threads import pinned
from tests.models.tiny import tiny_sam
from tests.predict.clusters import Cluster

_SETTINGS: dict[str, Any] = {
    "points_per_side": 2,
    "pred_iou_thresh": -9.0,
    "stability_score_thresh": 0.0,
}


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 9 * i, 60, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_equals_generate_in_order(workers: int) -> None:
    """Five images: the records of `generate` with as many threads, to the last bit, in order."""
    model = tiny_sam()
    images = _images(5)
    with pinned(1):
        generator = SAMAutomaticMaskGenerator(model, **_SETTINGS)
        expected = [generator.generate(image) for image in images]
    records = generate_masks_parallel(images, workers, model, threads_per_worker=1, **_SETTINGS)

    assert len(records) == 5
    for ours, alone in zip(records, expected, strict=True):
        assert len(ours) == len(alone) > 0
        for a, b in zip(ours, alone, strict=True):
            assert np.array_equal(a.pop("segmentation"), b.pop("segmentation"))
            assert a == b


def test_actors_keep_the_order_too(cluster: Cluster) -> None:
    """What comes back last first from a cluster is yielded in the order of the images."""
    model, images = tiny_sam(), _images(3)
    here = generate_masks_parallel(images, 1, model, threads_per_worker=1, **_SETTINGS)
    there = generate_masks_parallel(
        images, 2, model, threads_per_worker=1, ray="local", **_SETTINGS
    )

    assert [[r["area"] for r in each] for each in there] == [
        [r["area"] for r in each] for each in here
    ]
    assert cluster.asked["concurrency"] == 2


@pytest.mark.parametrize("mode", ["coco_rle", "uncompressed_rle"])
def test_masks_come_in_the_mode_asked_for(mode: str) -> None:
    """Run lengths are those of `generate`, compressed or not."""
    model, settings = tiny_sam(), {**_SETTINGS, "output_mode": mode}
    expected = SAMAutomaticMaskGenerator(model, **settings).generate(_images(1)[0])

    assert generate_masks_parallel(_images(1), 1, model, **settings) == [expected]


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    """An error in a worker keeps its type and says which image it was."""
    Image.fromarray(_images(1)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    paths = [tmp_path / "good.png", tmp_path / "bad.png"]
    with pytest.raises(ImageError, match="image 1: expected .*bad.png"):
        generate_masks_parallel(paths, 1, tiny_sam(), **_SETTINGS)


class Deadly:
    """An image that ends the process that looks at it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (7,)


def test_a_worker_that_dies_is_an_error() -> None:
    """It does not hang, and says what to do."""
    images = [*_images(1), Deadly()]
    with pytest.raises(NexusError, match=r"one that died at 'image \d'\nhint: .*memory"):
        generate_masks_parallel(images, 2, tiny_sam(), **_SETTINGS)  # type: ignore[list-item]


def test_wrong_settings_are_refused_at_once() -> None:
    """Before any process is started; no image needs no model."""
    with pytest.raises(InputError, match="number of workers of 1 or more, got 0"):
        generate_masks_parallel(_images(1), 0, tiny_sam())
    with pytest.raises(InputError, match="number of threads of 1 or more, got 0"):
        generate_masks_parallel(_images(1), 1, tiny_sam(), threads_per_worker=0)
    with pytest.raises(InputError, match="got colour"):
        generate_masks_parallel(_images(1), 1, tiny_sam(), colour=1)
    with pytest.raises(InputError, match="model on the CPU, got one on meta"):
        generate_masks_parallel(_images(1), 1, tiny_sam().to("meta"))
    assert generate_masks_parallel([], 4, "no_such_model") == []


def test_images_are_counted_as_they_come() -> None:
    """`progress` is told of each image, whichever process did it."""
    told: list[tuple[int, int]] = []
    generate_masks_parallel(
        _images(3), 1, tiny_sam(), progress=lambda *seen: told.append(seen), **_SETTINGS
    )

    assert told == [(1, 3), (2, 3), (3, 3)]
