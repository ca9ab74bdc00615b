"""Automatic masks in processes that share the weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nexus.predict.parallel as parallel
from nexus.core.errors import ImageError, InputError, NexusError
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.parallel import available_cores, generate_masks_parallel, share_weights
from tests.models.tiny import tiny_sam

_SETTINGS: dict[str, Any] = {
    "points_per_side": 2,
    "pred_iou_thresh": -9.0,
    "stability_score_thresh": 0.0,
}


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 9 * i, 60, 3), dtype=np.uint8) for i in range(count)]


def test_equals_one_process_in_order() -> None:
    """Two workers on five images: the records of `generate`, image by image, masks as arrays."""
    model = tiny_sam()
    images = _images(5)
    expected = [SAMAutomaticMaskGenerator(model, **_SETTINGS).generate(image) for image in images]
    records = generate_masks_parallel(images, 2, model, threads_per_worker=1, **_SETTINGS)

    assert len(records) == 5
    for ours, alone in zip(records, expected, strict=True):
        assert len(ours) == len(alone) > 0
        for a, b in zip(ours, alone, strict=True):
            assert a["segmentation"].shape == b["segmentation"].shape
            assert (a["segmentation"] != b["segmentation"]).mean() < 2e-3
            assert a["point_coords"] == b["point_coords"]


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
    with pytest.raises(NexusError, match=r"image \d, got a worker process that died\nhint: .*mem"):
        generate_masks_parallel(images, 1, tiny_sam(), **_SETTINGS)  # type: ignore[list-item]


def test_weights_are_one_piece_of_shared_memory() -> None:
    """Every parameter and buffer lies in it; the model answers as before; twice is once."""
    model, image = tiny_sam(), _images(1)[0]
    before = model.predict(image, (9, 9)).low_res_logits
    share_weights(model)
    tensors = [*model.parameters(), *model.buffers()]
    pieces = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    share_weights(model)

    assert all(tensor.is_shared() for tensor in tensors)
    assert len(pieces) == 1
    assert {tensor.untyped_storage().data_ptr() for tensor in tensors} == pieces
    assert np.array_equal(model.predict(image, (9, 9)).low_res_logits, before)


def test_too_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before the copy, which would end the process without a word."""
    monkeypatch.setattr(parallel, "_SHARED_FOLDER", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(NexusError, match="MiB of shared memory(.|\n)*--shm-size"):
        share_weights(tiny_sam())


def test_wrong_settings_are_refused_at_once() -> None:
    """Before any process is started; no image needs no model."""
    with pytest.raises(InputError, match="at least 1 worker and 1 thread for each, got 0 and"):
        generate_masks_parallel(_images(1), 0, tiny_sam())
    with pytest.raises(InputError, match="1 thread for each, got 1 and 0"):
        generate_masks_parallel(_images(1), 1, tiny_sam(), threads_per_worker=0)
    with pytest.raises(InputError, match="got colour"):
        generate_masks_parallel(_images(1), 1, tiny_sam(), colour=1)
    with pytest.raises(InputError, match="model on the CPU, got one on meta"):
        share_weights(tiny_sam().to("meta"))
    assert generate_masks_parallel([], 4, "no_such_model") == []


def test_cores_are_those_the_process_may_use() -> None:
    """At least one, and no more than the machine has."""
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    assert torch.get_num_threads() >= 1
