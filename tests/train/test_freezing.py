"""Which weights learn, on tiny models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nexus.core.errors import InputError
from nexus.train.freezing import freeze, training_mode
from nexus.train.lora import add_lora
from tests.models.tiny import TINY_CONVOLUTIONAL, tiny_sam
from tests.models.tiny_sam2 import tiny_sam2


def learning(model: nn.Module) -> set[str]:
    """Return the parts of a model that learn."""
    return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}


def size(*parts: nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


def test_each_policy_trains_what_it_says() -> None:
    """It returns how many values that are, and undoes the policy before."""
    sam = tiny_sam()

    assert freeze(sam, "decoder") == size(sam.mask_decoder)
    assert learning(sam) == {"mask_decoder"}
    assert freeze(sam, "full") == size(sam)
    assert freeze(sam, "all_but_encoder") == size(sam) - size(sam.image_encoder)
    assert freeze(sam, "prompt_and_decoder") == size(sam.mask_decoder, sam.prompt_encoder)
    assert learning(sam) == {"mask_decoder", "prompt_encoder"}


def test_sam2_keeps_what_its_embeddings_are_made_with() -> None:
    """A step of the decoder does not spoil embeddings made before."""
    model = tiny_sam2()
    decoder = model.sam_mask_decoder
    expected = size(decoder) - size(decoder.conv_s0, decoder.conv_s1)
    embedding = model.encode_image(torch.rand(3, 60, 60))

    assert freeze(model, "decoder") == expected
    assert freeze(model, "prompt_and_decoder") == expected + size(model.sam_prompt_encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model([embedding], [[(9, 9)]]).sum().backward()
    optimizer.step()
    model.check_embedding(embedding)
    assert freeze(model, "full") == size(model)


def test_lora_trains_adapters_alone() -> None:
    """Also in a decoder; without adapters there is nothing to train."""
    sam = tiny_sam()
    with pytest.raises(InputError, match=r"weights that 'lora' trains, got none in SAM\nhint: put"):
        freeze(sam, "lora")
    add_lora(sam, rank=2, where="both")
    adapters = sum(p.numel() for name, p in sam.named_parameters() if "lora_" in name)

    assert freeze(sam, "lora") == adapters
    assert all("lora_" in name for name, p in sam.named_parameters() if p.requires_grad)


def test_what_rests_is_in_eval_mode() -> None:
    """The part that learns trains, a dropout in it too; the rest and batch norms do not."""
    sam = tiny_sam(config=TINY_CONVOLUTIONAL)
    norms = [m for m in sam.modules() if isinstance(m, nn.BatchNorm2d)]
    freeze(sam, "decoder")

    assert sam.training
    assert sam.mask_decoder.transformer.training
    assert not any(m.training for m in sam.image_encoder.modules())
    freeze(sam, "full")
    assert sam.image_encoder.training
    assert not any(norm.training for norm in norms)
    add_lora(sam, rank=2, dropout=0.5)
    freeze(sam, "lora")
    dropouts = [m for m in sam.modules() if isinstance(m, nn.Dropout)]
    assert dropouts
    assert all(dropout.training for dropout in dropouts)
    assert not any(norm.training for norm in norms)


def test_statistics_stay_while_all_weights_learn() -> None:
    """A step of 'full' leaves the running mean of batch normalisation as it was."""
    sam = tiny_sam(config=TINY_CONVOLUTIONAL)
    freeze(sam, "full")
    before = {name: b.clone() for name, b in sam.named_buffers()}
    sam(torch.rand(2, 3, 60, 60), [[(9, 9)], [(9, 9)]]).sum().backward()
    norm = next(m for m in sam.modules() if isinstance(m, nn.BatchNorm2d))

    assert norm.weight.grad.abs().sum() > 0
    assert all(torch.equal(before[name], b) for name, b in sam.named_buffers())


def test_the_mode_comes_back_after_evaluation() -> None:
    """`training_mode` does again what `eval` undid."""
    sam = tiny_sam()
    freeze(sam, "decoder")
    modes = [m.training for m in sam.modules()]
    sam.eval()
    training_mode(sam)

    assert [m.training for m in sam.modules()] == modes


def test_an_unknown_policy_is_refused() -> None:
    """The message lists those there are."""
    with pytest.raises(InputError, match="lora, all_but_encoder, full, got 'head'"):
        freeze(tiny_sam(), "head")
