"""Embeddings on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nexus.train.images.embedding_cache import EmbeddingCache, digest_of
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2])
def test_an_image_is_encoded_once(tmp_path: Path, make: type) -> None:
    """A later cache of the same model hits; what comes back is what the model gave."""
    model = make()
    first = EmbeddingCache(model, tmp_path, "float32")
    digest = first.add(IMAGE)
    again = EmbeddingCache(make(), tmp_path, "float32")

    assert again.add(IMAGE) == digest
    assert (first.encoded, again.encoded) == (1, 0)
    loaded, fresh = again.load(digest), model.encode_image(IMAGE)
    assert torch.equal(loaded.features, fresh.features)
    assert len(loaded.high_res_features) == len(fresh.high_res_features)
    model.check_embedding(loaded)


def test_half_precision_is_given_out_in_full(tmp_path: Path) -> None:
    """bfloat16 files are half as large, and their values come back as float32."""
    full, half = (EmbeddingCache(tiny_sam(), tmp_path, name) for name in ("float32", "bfloat16"))
    digest = full.add(IMAGE)
    half.add(IMAGE, digest)

    features = half.load(digest).features
    assert features.dtype == torch.float32
    assert (features - full.load(digest).features).abs().max() < 0.05
    assert half.path(digest).stat().st_size < full.path(digest).stat().st_size


def test_another_encoder_or_image_is_another_file(tmp_path: Path) -> None:
    """Weights and pixels name the file; a damaged one is written again."""
    cache = EmbeddingCache(tiny_sam(0), tmp_path)
    digest = cache.add(IMAGE)

    assert cache.folder != EmbeddingCache(tiny_sam(1), tmp_path).folder
    assert digest_of(IMAGE[:, ::-1]) != digest
    assert digest_of(IMAGE.astype(np.uint16)) != digest
    cache.path(digest).write_bytes(cache.path(digest).read_bytes()[:100])
    cache.add(IMAGE)
    assert cache.load(digest).features.shape == (16, 4, 4)


def test_the_usual_place(nexus_home: Path) -> None:
    """Without a folder, embeddings are beside the fetched weights."""
    assert EmbeddingCache(tiny_sam()).folder.parent == nexus_home / "embeddings"
