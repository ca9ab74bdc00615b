"""Loading models that have an entry in the table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import nexus.models.registry as registry
from nexus.core.errors import CheckpointError, InputError, UnknownModelError
from nexus.core.weights.hub import WeightFile
from nexus.models.cv import SAM2, EdgeTAM, load_model
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny checkpoint wrapped as the official files are, under official names."""
    monkeypatch.setitem(SAM2.variants, "sam2.1_hiera_tiny", TINY_SAM2)
    monkeypatch.setitem(EdgeTAM.variants, "edgetam", TINY_EDGETAM)
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": tiny_sam2(3).state_dict()}, path)
    return path


def test_a_file_is_loaded_strictly(checkpoint: Path) -> None:
    """Every weight is the file's, and the model is ready to predict."""
    model = SAM2.from_checkpoint(checkpoint, variant="sam2.1_hiera_tiny", device="cpu")

    assert not model.training
    assert model.variant == "sam2.1_hiera_tiny"
    for name, tensor in tiny_sam2(3).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_placement_and_side(checkpoint: Path) -> None:
    """Number format and input side are the caller's."""
    model = SAM2.from_checkpoint(
        checkpoint, variant="sam2.1_hiera_tiny", device="cpu", dtype="bfloat16", input_side=96
    )

    assert model.no_mem_embed.dtype == torch.bfloat16
    assert model.policy.input_side == 96


def test_from_pretrained_takes_the_cached_file(
    checkpoint: Path, nexus_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that lies in the cache is used; `load_model` finds the class by the name."""
    spec = registry.MODELS["sam2.1_hiera_tiny"]
    plain = WeightFile(spec.file.filename, spec.file.sources)
    monkeypatch.setitem(registry.MODELS, spec.name, dataclasses.replace(spec, file=plain))
    (nexus_home / "weights").mkdir(parents=True)
    checkpoint.rename(nexus_home / "weights" / checkpoint.name)

    assert type(SAM2.from_pretrained("sam2.1_hiera_tiny", device="cpu")) is SAM2
    assert type(load_model("sam2.1_hiera_tiny", device="cpu")) is SAM2
    official = SAM2.from_pretrained("facebook/sam2.1-hiera-tiny", device="cpu")
    assert official.variant == "sam2.1_hiera_tiny"


def test_a_file_needs_a_variant(checkpoint: Path) -> None:
    """The message lists the names of this class alone."""
    with pytest.raises(InputError, match="expected variant= to say which model") as error:
        SAM2.from_checkpoint(checkpoint, device="cpu")

    assert "hint: one of sam2.1_hiera_tiny, " in str(error.value)
    assert "edgetam" not in str(error.value)


def test_another_class_is_named(checkpoint: Path) -> None:
    """A name of another class leads to the right one."""
    with pytest.raises(UnknownModelError, match="got 'edgetam', which is one of EdgeTAM") as error:
        SAM2.from_checkpoint(checkpoint, variant="edgetam", device="cpu")
    with pytest.raises(UnknownModelError, match="which is one of SAM"):
        EdgeTAM.from_pretrained("sam_vit_b", device="cpu")

    assert "from nexus.models.cv import EdgeTAM; EdgeTAM.from_pretrained('edgetam')" in str(
        error.value
    )


def test_the_checkpoint_of_another_model_is_refused(checkpoint: Path) -> None:
    """Missing and unexpected entries are named."""
    with pytest.raises(CheckpointError, match="unexpected: no_obj_embed_spatial") as error:
        EdgeTAM.from_checkpoint(checkpoint, variant="edgetam", device="cpu")

    assert "hint: this is the checkpoint of another model" in str(error.value)


def test_a_checkpoint_may_say_what_its_policy_has_otherwise(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Words in the head of a safetensors file replace fields of the table's policy."""
    path = tmp_path / "tuned.safetensors"
    words = '{"box_only": true, "logit_limit": null, "input_side": 512}'
    save_file(tiny_sam2(3).state_dict(), path, metadata={"nexus_policy": words})

    policy = SAM2.from_checkpoint(path, variant="sam2.1_hiera_tiny", device="cpu").policy

    usual = registry.MODELS["sam2.1_hiera_tiny"].policy
    assert policy == dataclasses.replace(usual, box_only=True, logit_limit=None, input_side=512)


@pytest.mark.parametrize(
    "words", ['{"box_onyl": true}', '{"box_only": "no"}', '{"resize": "up"}', "[1]", "{"]
)
def test_a_policy_that_cannot_be_is_refused(checkpoint: Path, tmp_path: Path, words: str) -> None:
    """Unknown fields, and values a field cannot have, name the file and the words."""
    path = tmp_path / "tuned.safetensors"
    save_file(tiny_sam2(3).state_dict(), path, metadata={"nexus_policy": words})

    with pytest.raises(CheckpointError, match=r"fields of a Policy as 'nexus_policy' .*tuned") as e:
        SAM2.from_checkpoint(path, variant="sam2.1_hiera_tiny", device="cpu")

    assert words in e.value.message


def test_a_load_is_logged(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was loaded from where, and in which format on which device, is in the records."""
    with caplog.at_level("INFO", logger="nexus"):
        load_model("sam2.1_hiera_tiny", checkpoint, device="cpu", dtype="bfloat16")

    loaded, placed = caplog.messages[-2:]
    assert loaded.startswith("loaded sam2.1_hiera_tiny: 0.")
    assert str(checkpoint) in loaded
    assert placed == "sam2.1_hiera_tiny in bfloat16 on cpu, input side 1024"
