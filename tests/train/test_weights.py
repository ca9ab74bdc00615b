"""Weights under their official names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from nexus.core.errors import CheckpointError
from nexus.models.cv.sam import SAM, VARIANTS
from nexus.train.lora import add_lora, merge
from nexus.train.weights import save_checkpoint
from tests.models.tiny import TINY, tiny_sam


def test_from_checkpoint_reads_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merged model too, with what was noted in the head of the file."""
    model = merge(add_lora(tiny_sam(), 2, where="both"))
    monkeypatch.setitem(VARIANTS, "sam_vit_b", TINY)
    path = save_checkpoint(model, tmp_path / "new" / "best.safetensors", {"step": "7"})
    again = SAM.from_checkpoint(path, variant="sam_vit_b", device="cpu")

    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"step": "7"}


def test_a_model_with_adapters_is_refused(tmp_path: Path) -> None:
    """Nothing is written, and the message says what to do."""
    with pytest.raises(CheckpointError, match=r"got one with adapters: image_.*\nhint: .*merge"):
        save_checkpoint(add_lora(tiny_sam()), tmp_path / "best.safetensors")
    assert list(tmp_path.iterdir()) == []
