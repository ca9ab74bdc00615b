"""Adapters on every backbone: equal at first, learning, saved, loaded, merged."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nexus.core.errors import (
    CheckpointError,
    InputError,
    MissingDependencyError,
    NexusWarning,
    WeightsNotFoundError,
)
from nexus.core.types import Prompt
from nexus.models.cv import SAM
from nexus.models.promptable import PromptableModel
from nexus.train.freezing import freeze, training_mode
from nexus.train.lora import add_lora, load_adapter, merge, save_adapter, target_names
from tests.models.tiny import TINY, TINY_CONVOLUTIONAL, TINY_POLICY, tiny_sam
from tests.models.tiny_sam2 import TINY_EDGETAM, tiny_sam2

peft = pytest.importorskip("peft")

MODELS = {
    "vit": tiny_sam,
    "tiny_vit": lambda: tiny_sam(config=TINY_CONVOLUTIONAL),
    "hiera": tiny_sam2,
    "repvit": lambda: tiny_sam2(config=TINY_EDGETAM),
}
PROMPTS = [[Prompt(box=[10, 5, 40, 40]), Prompt([[9, 9]])]] * 2
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 60, 60, 3), dtype=np.uint8)


@pytest.fixture(params=MODELS)
def backbone(request: pytest.FixtureRequest) -> str:
    return request.param


def disturbed(model: nn.Module) -> nn.Module:
    """Give adapters values as if they had learnt."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.2)
    return model


def gradients(model: nn.Module) -> dict[str, bool]:
    """Return, by the names of adapters, whether a gradient reaches them."""
    return {
        name: weight.grad is not None and bool(weight.grad.abs().sum() > 0)
        for name, weight in model.named_parameters()
        if "lora_" in name
    }


@pytest.mark.parametrize("where", ["encoder", "decoder", "both"])
def test_at_first_nothing_changes_then_all_adapters_learn(backbone: str, where: str) -> None:
    """Outputs are those of the plain model; every adapter has a gradient, and nothing else."""
    plain = MODELS[backbone]()
    model = add_lora(MODELS[backbone](), 2, 4.0, targets="attention_and_mlp", where=where)

    torch.testing.assert_close(
        model(IMAGES, PROMPTS, True), plain(IMAGES, PROMPTS, True), atol=1e-5, rtol=1e-5
    )
    disturbed(model)(IMAGES, PROMPTS, True).square().sum().backward()
    found = gradients(model)
    assert len(found) == 2 * len(target_names(plain, "attention_and_mlp", where))
    # The scores of attention do not see what shifts all keys alike, and a map of one token in
    # the last stage of a tiny model has no scores at all.
    assert sum(found.values()) > 0.9 * len(found)
    assert all(p.grad is None for name, p in model.named_parameters() if "lora_" not in name)


def test_merged_equals_unmerged(backbone: str) -> None:
    """To 1e-5, through fused attention too; the names are the official ones again."""
    model = add_lora(MODELS[backbone](), 2, 4.0, targets="attention_and_mlp", where="both")
    names = set(MODELS[backbone]().state_dict())
    untouched = model(IMAGES, PROMPTS, True)
    disturbed(model)
    expected = model(IMAGES, PROMPTS, True)
    predicted = model.predict(IMAGES[0], (9, 9)).low_res_logits
    merged = merge(model)

    assert merged is model
    assert set(merged.state_dict()) == names
    assert not (expected - untouched).abs().max() < 1e-2
    torch.testing.assert_close(merged(IMAGES, PROMPTS, True), expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(
        merged.predict(IMAGES[0], (9, 9)).low_res_logits, predicted, atol=1e-5
    )
    assert all(weight.requires_grad for weight in merged.parameters())


def test_saved_adapters_load_on_their_base(backbone: str, tmp_path: Path) -> None:
    """Equal outputs; the loaded adapters can go on learning and be merged."""
    model = disturbed(add_lora(MODELS[backbone](), 2, targets="attention_and_mlp", where="both"))
    expected = model(IMAGES, PROMPTS)
    folder = save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(MODELS[backbone](), folder)

    assert sorted(p.name for p in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert torch.equal(loaded(IMAGES, PROMPTS), expected)
    assert not any(module.training for module in loaded.modules())
    assert freeze(loaded, "lora") > 0
    # Sums are rounded by where tensors lie in memory, so that this is a share of the largest logit.
    most = 1e-5 * max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(merge(loaded)(IMAGES, PROMPTS), expected, atol=most, rtol=1e-5)


def test_what_was_taught_comes_with_the_adapters(tmp_path: Path) -> None:
    """A model of boxes that learnt clicks takes them without a warning once they are loaded."""
    of_table = dataclasses.replace(TINY_POLICY, box_only=True, candidates=False)

    def of_boxes() -> SAM:
        model = SAM(TINY, "lite_medsam", of_table)
        model.load_state_dict(tiny_sam().state_dict())
        return model.eval()

    learnt = add_lora(of_boxes(), 2)
    learnt.policy = dataclasses.replace(learnt.policy, box_only=False, candidates=True)
    folder = save_adapter(learnt, tmp_path / "adapter")
    plain, loaded = of_boxes(), load_adapter(of_boxes(), folder)

    assert loaded.policy == learnt.policy
    assert merge(loaded).policy == learnt.policy
    with pytest.warns(NexusWarning, match="trained on box prompts alone"):
        plain.predict(IMAGES[0], (9, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(loaded.predict(IMAGES[0], (9, 9))) == 3


def test_peft_reads_what_is_saved(tmp_path: Path) -> None:
    """The folder is peft's own format."""
    model = disturbed(add_lora(tiny_sam(), 2, where="both"))
    wrapped = peft.PeftModel.from_pretrained(tiny_sam(), str(save_adapter(model, tmp_path)))

    torch.testing.assert_close(wrapped(IMAGES, PROMPTS), model(IMAGES, PROMPTS))


@pytest.mark.parametrize("name", ["vit", "tiny_vit", "hiera"])
def test_the_lines_of_the_documents_run(name: str, tmp_path: Path) -> None:
    """`get_peft_model` with qkv: a wrapped model learns, predicts, is saved and merged."""
    config = peft.LoraConfig(
        r=16, lora_alpha=32, target_modules=["qkv"], lora_dropout=0.1, bias="none"
    )
    model = peft.get_peft_model(MODELS[name](), config)
    training_mode(model)
    disturbed(model)(IMAGES, PROMPTS).sum().backward()
    found = gradients(model)
    model.eval()
    expected = model(IMAGES, PROMPTS)
    folder = save_adapter(model, tmp_path)

    assert all(".qkv." in name for name in found)
    assert sum(found.values()) > 0.8 * len(found)
    assert model.predict(IMAGES[0], (9, 9)).masks.shape == (3, 60, 60)
    assert torch.equal(load_adapter(MODELS[name](), folder)(IMAGES, PROMPTS), expected)
    torch.testing.assert_close(merge(model)(IMAGES, PROMPTS), expected, atol=1e-5, rtol=1e-5)


def test_a_convolution_with_adapters_is_not_folded_away() -> None:
    """Adapters on a convolution that is folded with its batch norm still counts, in every mode."""
    model = tiny_sam(config=TINY_CONVOLUTIONAL)
    config = peft.LoraConfig(r=2, target_modules=["image_encoder.layers.0.blocks.0.conv1.c"])
    peft.inject_adapter_in_model(config, model)
    before = model(IMAGES, PROMPTS)
    after = disturbed(model)(IMAGES, PROMPTS)

    assert (after - before).abs().max() > 1e-3


def test_a_projection_of_finer_maps_with_adapters_is_used() -> None:
    """What peft puts in place of SAM 2's conv_s0 is what images are encoded with."""
    model = tiny_sam2()
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["conv_s0"]), model)
    before = model(IMAGES, PROMPTS)
    after = disturbed(model)(IMAGES, PROMPTS)

    assert (after - before).abs().max() > 1e-3


def test_dropout_is_for_training_alone() -> None:
    """Two answers differ in training mode, in encoder and decoder, and not outside."""
    for where in ("encoder", "decoder"):
        model = disturbed(add_lora(tiny_sam(), 2, dropout=0.5, where=where))
        assert torch.equal(model(IMAGES, PROMPTS), model(IMAGES, PROMPTS))
        freeze(model, "lora")
        assert not torch.equal(model(IMAGES, PROMPTS), model(IMAGES, PROMPTS))


def test_layers_are_those_of_attention_and_mlps() -> None:
    """By backbone, and by part of the model."""
    assert target_names(tiny_sam(), "attention_and_mlp", "encoder")[:4] == [
        f"image_encoder.blocks.0.{name}"
        for name in ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
    ]
    counts = {
        name: [
            len(target_names(make(), targets, where))
            for targets in ("attention", "attention_and_mlp")
            for where in ("encoder", "decoder")
            if (name, targets, where) != ("repvit", "attention", "encoder")
        ]
        for name, make in MODELS.items()
    }
    # Two per block in the encoder, and as many for its MLP; seven attentions of four in a decoder.
    assert counts["vit"] == [4, 28, 8, 32]
    assert counts["tiny_vit"] == [6, 28, 12, 32]
    assert counts["hiera"] == [10, 28, 20, 32]
    assert counts["repvit"] == [28, 22, 32]


def test_a_backbone_without_attention_is_refused() -> None:
    """The message says what can be adapted instead."""
    with pytest.raises(InputError, match=r"with attention, got one of .*\nhint: .*1 x 1 conv"):
        add_lora(MODELS["repvit"]())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "a rank of 1 or more, got 0"),
        ({"rank": 2.5}, "a rank of 1 or more, got 2.5"),
        ({"alpha": 0}, "alpha above 0 and dropout from 0 to below 1, got 0 and 0.0"),
        ({"dropout": 1.0}, "got 16.0 and 1.0"),
        ({"targets": "mlp"}, "one of attention, attention_and_mlp, got 'mlp'"),
        ({"where": "neck"}, "one of encoder, decoder, both, got 'neck'"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    """And the model stays as it was."""
    model = tiny_sam()

    with pytest.raises(InputError, match=message):
        add_lora(model, **values)
    assert set(model.state_dict()) == set(tiny_sam().state_dict())


def test_adapters_come_once_and_only_where_they_are() -> None:
    """A second set, or none to save or merge, is refused."""
    with pytest.raises(InputError, match=r"without adapters, got one .*\nhint: .*merge"):
        add_lora(add_lora(tiny_sam()))
    for use in (merge, lambda model: save_adapter(model, "nowhere")):
        with pytest.raises(InputError, match=r"model with adapters, got a plain SAM\nhint: .*add"):
            use(tiny_sam())


def test_other_weights_that_learn_are_not_lost_silently(tmp_path: Path) -> None:
    """An adapter cannot hold a decoder that learnt beside it."""
    model = add_lora(tiny_sam())
    model.mask_decoder.requires_grad_(True)

    with pytest.raises(InputError, match=r"adapters alone to learn, got \d+ other weights: mask_d"):
        save_adapter(model, tmp_path)


def test_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    """`model.train()` moves the statistics of batch norms, which no adapter holds."""
    model = add_lora(tiny_sam(config=TINY_CONVOLUTIONAL))
    model.train()
    model(IMAGES, PROMPTS)

    with pytest.raises(InputError, match=r"got one that changed since\nhint: .*training_mode"):
        save_adapter(model, tmp_path)


def test_another_base_is_refused(tmp_path: Path) -> None:
    """Other weights or another variant; in another number format it is the same base."""
    folder = save_adapter(add_lora(tiny_sam(), 2), tmp_path)

    for other in (tiny_sam(seed=1), tiny_sam(variant="other")):
        with pytest.raises(CheckpointError, match=rf"adapter of this {other.variant}, .* on tiny,"):
            load_adapter(other, folder)
    changed = tiny_sam()
    with torch.no_grad():
        changed.mask_decoder.iou_token.weight.add_(1)
    with pytest.raises(CheckpointError, match="got one trained on tiny"):
        load_adapter(changed, folder)
    assert isinstance(load_adapter(tiny_sam().bfloat16(), folder), PromptableModel)


def test_folders_that_hold_no_adapter_are_refused(tmp_path: Path) -> None:
    """Missing, damaged, of another kind, or not saying what they belong to."""
    with pytest.raises(WeightsNotFoundError, match=r"adapter_config.json .* got no such files"):
        load_adapter(tiny_sam(), tmp_path / "none")
    folder = save_adapter(add_lora(tiny_sam(), 2), tmp_path / "adapter")
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    good, values = weights.read_bytes(), json.loads(config.read_text())

    weights.write_bytes(good[:-9])
    with pytest.raises(CheckpointError, match="a whole safetensors file, got"):
        load_adapter(tiny_sam(), folder)
    weights.write_bytes(good)
    save_file(load_file(weights), weights)
    with pytest.raises(CheckpointError, match=r"a note of the base model .*, got none\nhint: save"):
        load_adapter(tiny_sam(), folder)
    weights.write_bytes(good)
    config.write_text(json.dumps(values | {"peft_type": "IA3"}))
    with pytest.raises(CheckpointError, match="of type LORA in .*, got 'IA3'"):
        load_adapter(tiny_sam(), folder)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"expected JSON in .*adapter_config.json"):
        load_adapter(tiny_sam(), folder)


def test_a_model_stays_plain_if_its_adapter_does_not_fit(tmp_path: Path) -> None:
    """A configuration of another rank than the tensors leaves the model as it was."""
    folder = save_adapter(add_lora(tiny_sam(), 2), tmp_path)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 3}))
    model = tiny_sam()

    with pytest.raises(CheckpointError, match=r"the 8 tensors that adapter_config.json describes"):
        load_adapter(model, folder)
    assert set(model.state_dict()) == set(tiny_sam().state_dict())


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "peft", None)

    with pytest.raises(MissingDependencyError, match=r"'peft' .*\nhint: pip .*\[train\]"):
        add_lora(tiny_sam())
