"""Loading SAM: names, files, wrong files, wrong classes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import nexus.models.cv.sam as sam_module
from nexus.core.errors import (
    CheckpointError,
    InputError,
    NexusWarning,
    UnknownModelError,
    WeightsNotFoundError,
)
from nexus.models.cv import SAM, MedSAM, load_model
from nexus.models.policy import LITE_MEDSAM_POLICY, SAM_POLICY
from tests.models.tiny import TINY, tiny_sam


@pytest.fixture
def tiny_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the names of the table tiny sizes, so that tiny files can stand for them."""
    for name in ("sam_vit_b", "lite_medsam"):
        monkeypatch.setitem(sam_module.VARIANTS, name, TINY)


@pytest.mark.usefixtures("tiny_variants")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_loads_strictly_and_predicts_the_same(tmp_path: Path, suffix: str) -> None:
    """Both file formats give the model that was saved."""
    model = tiny_sam()
    path = tmp_path / f"weights{suffix}"
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = SAM.from_checkpoint(path, variant="sam_vit_b", device="cpu", input_side=64)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)

    assert loaded.variant == "sam_vit_b"
    assert loaded.policy.input_side == 64
    assert not loaded.training
    expected = model.predict(image=image, prompt=(30, 20)).low_res_logits
    assert np.array_equal(loaded.predict(image=image, prompt=(30, 20)).low_res_logits, expected)


@pytest.mark.usefixtures("tiny_variants")
def test_the_policy_comes_with_the_variant(tmp_path: Path) -> None:
    """The same weights are SAM or LiteMedSAM by their variant's policy alone."""
    torch.save(tiny_sam().state_dict(), tmp_path / "weights.pth")
    sam = SAM.from_checkpoint(tmp_path / "weights.pth", variant="sam_vit_b", device="cpu")
    as_sam = SAM.from_checkpoint(tmp_path / "weights.pth", variant="lite_medsam", device="cpu")
    medsam = load_model("lite_medsam", tmp_path / "weights.pth", device="cpu")

    assert sam.policy == SAM_POLICY
    assert as_sam.policy == medsam.policy == LITE_MEDSAM_POLICY
    assert type(as_sam) is SAM
    assert type(medsam) is MedSAM


@pytest.mark.usefixtures("tiny_variants")
def test_the_number_format_is_chosen(tmp_path: Path) -> None:
    """None is float32; a name or a torch type chooses another; anything else is refused."""
    torch.save(tiny_sam().state_dict(), tmp_path / "w.pth")
    load = lambda dtype: SAM.from_checkpoint(  # noqa: E731
        tmp_path / "w.pth", variant="sam_vit_b", device="cpu", dtype=dtype
    )

    assert next(load(None).parameters()).dtype == torch.float32
    assert next(load("bfloat16").parameters()).dtype == torch.bfloat16
    with pytest.warns(NexusWarning, match=r"slower than float32; `dtype='float32'` or"):
        assert next(load(torch.float16).parameters()).dtype == torch.float16
    with pytest.raises(InputError, match="float32, bfloat16, float16, got 'int8'"):
        load("int8")


def test_an_unknown_device_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """A missing accelerator is named, with what to do."""
    for device in ("cuda:99", "gpu"):
        with pytest.raises(InputError, match="expected a device"):
            SAM.from_checkpoint(tmp_path / "none.pth", variant="sam_vit_b", device=device)


@pytest.mark.usefixtures("tiny_variants")
def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Missing, unexpected and misshapen entries are named."""
    state = tiny_sam().state_dict()
    state["image_encoder.extra"] = torch.zeros(1)
    del state["mask_decoder.iou_token.weight"]
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(9, 16)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError) as caught:
        SAM.from_checkpoint(tmp_path / "weights.pth", variant="sam_vit_b")

    message = str(caught.value)
    for part in ("iou_token.weight", "image_encoder.extra", "mask_tokens.weight", "sam_vit_b"):
        assert part in message


def test_damaged_and_dangerous_files_are_refused(tmp_path: Path) -> None:
    """Truncated, empty, not a checkpoint, or with code in the pickle."""

    class Exploit:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("code ran",)

    torch.save(tiny_sam().state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    files = {
        "truncated.pth": whole[: len(whole) // 2],
        "empty.pth": b"",
        "text.pth": b"<html>not found</html>",
        "code.pth": pickle.dumps({"weight": Exploit()}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            SAM.from_checkpoint(tmp_path / name, variant="sam_vit_b")
    with pytest.raises(FileNotFoundError, match=r"none.pth"):
        SAM.from_checkpoint(tmp_path / "none.pth", variant="sam_vit_b")


def test_a_file_without_a_variant_is_not_guessed(tmp_path: Path) -> None:
    """The message lists the names the class has."""
    with pytest.raises(InputError, match=r"variant= to say which(.|\n)*one of sam_vit_b"):
        SAM.from_checkpoint(tmp_path / "weights.pth")


def test_names_are_not_guessed() -> None:
    """A near name is suggested, a path goes to from_checkpoint, a wrong class to the right."""
    with pytest.raises(UnknownModelError, match="did you mean 'sam_vit_b'"):
        SAM.from_pretrained("sam-vit-b")
    with pytest.raises(UnknownModelError, match=r"from_checkpoint\('./sam_vit_b.pth'"):
        SAM.from_pretrained("./sam_vit_b.pth")
    with pytest.raises(
        UnknownModelError, match=r"one of SAM(.|\n)*SAM.from_pretrained\('sam_vit_b'"
    ):
        MedSAM.from_pretrained("sam_vit_b")
    with pytest.raises(UnknownModelError, match="did you mean"):
        load_model("lite_medsm")


def test_offline_and_missing_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the file, a source and where to put it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsNotFoundError) as caught:
        SAM.from_pretrained("sam_vit_b")

    message = str(caught.value)
    assert "sam_vit_b_01ec64.pth" in message
    assert "https://" in message
    assert "weights" in message
