"""Image embeddings in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nexus.core.errors import EmbeddingError, EmbeddingNotFoundError
from nexus.core.types import Geometry, ImageEmbedding


def _embedding() -> ImageEmbedding:
    geometry = Geometry((3, 5), (6, 10), 16, (2.0, 2.0))
    finer = (torch.rand(2, 16, 16), torch.rand(2, 8, 8))
    return ImageEmbedding(torch.rand(4, 4, 4), geometry, "sam_vit_b", "abc", finer)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    """Features, finer maps, geometry and origin survive, and so does the number format."""
    embedding = _embedding()
    assert embedding.save(tmp_path / "new folder" / "e.safetensors").is_file()
    loaded = ImageEmbedding.load(tmp_path / "new folder" / "e.safetensors")

    assert torch.equal(loaded.features, embedding.features)
    assert loaded.geometry == embedding.geometry
    assert (loaded.model, loaded.fingerprint) == ("sam_vit_b", "abc")
    for ours, theirs in zip(loaded.high_res_features, embedding.high_res_features, strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.nbytes == 4 * (64 + 512 + 128)
    assert loaded.original_size_hw == (3, 5)


def test_moving_to_the_same_device_copies_nothing() -> None:
    """`to` gives the object itself when there is nothing to do."""
    embedding = _embedding()

    assert embedding.to("cpu") is embedding
    assert embedding.to("meta").device.type == "meta"


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Missing, truncated, foreign: each is told apart."""
    path = _embedding().save(tmp_path / "e.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-9])
    (tmp_path / "empty.safetensors").touch()
    save_file({"features": torch.zeros(1)}, tmp_path / "foreign.safetensors")

    with pytest.raises(EmbeddingNotFoundError, match=r"image embedding at .*none.*no such file"):
        ImageEmbedding.load(tmp_path / "none")
    with pytest.raises(EmbeddingNotFoundError, match="got a folder"):
        ImageEmbedding.load(tmp_path)
    header = {"nexus": '{"format": "nexus.image_embedding.1"}'}
    save_file({"features": torch.zeros(1)}, tmp_path / "bare.safetensors", metadata=header)
    for name in ("cut", "empty", "bare"):
        with pytest.raises(EmbeddingError, match=r"whole safetensors file(.|\n)*encode the image"):
            ImageEmbedding.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(EmbeddingError, match=r"image embedding saved by Nexus, got .*foreign"):
        ImageEmbedding.load(tmp_path / "foreign.safetensors")


def test_a_failed_save_keeps_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half-written replaces a good file, and nothing is left beside it."""
    path = _embedding().save(tmp_path / "e.safetensors")
    before = path.read_bytes()

    def fail(tensor: torch.Tensor) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch.Tensor, "contiguous", fail)
    with pytest.raises(OSError, match="disk full"):
        _embedding().save(path)

    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["e.safetensors"]
