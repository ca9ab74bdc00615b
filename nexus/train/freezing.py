"""Which weights of a model learn, and which modules then behave as in training.

A SAM of any kind is an image encoder, a prompt encoder and a mask decoder. Batch normalisation
always keeps the statistics it came with: those of a few images are noise, and with them a loss
would depend on how a batch is spread over processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.train.config import Policy

_DECODERS = ("mask_decoder", "sam_mask_decoder")
_PROMPT_ENCODERS = ("prompt_encoder", "sam_prompt_encoder")
# Of SAM 2's decoder, but applied when an image is encoded, and part of its embedding.
_ENCODING = ("sam_mask_decoder.conv_s0", "sam_mask_decoder.conv_s1")
_ADAPTER = ".lora_"


def freeze(model: nn.Module, policy: Policy) -> int:
    """Let the weights a policy names learn, and no others; put the model in training mode.

    Args:
        model: The model, or one that peft or accelerate has wrapped.
        policy: 'decoder' for the mask decoder; 'prompt_and_decoder' for the prompt encoder too;
            'lora' for the adapters that `nexus.train.lora.add_lora` put in; 'all_but_encoder' for
            memory as well, and whatever else is not the image encoder; 'full' for all. But for the
            last two the projections of SAM 2's finer maps rest, so that embeddings stay valid.

    Returns:
        The number of values that learn.

    Raises:
        InputError: An unknown policy, or one that finds nothing to train in this model.
    """
    entry(dict.fromkeys(get_args(Policy)), policy, "a policy")
    learning = 0
    for name, weight in model.named_parameters():
        learns = _learns(name, policy)
        weight.requires_grad_(learns)
        learning += weight.numel() * learns
    if not learning:
        hint = "put adapters in first: nexus.train.lora.add_lora(model)"
        raise InputError(
            f"expected a model with weights that {policy!r} trains, got none in "
            f"{type(model).__name__}",
            hint=hint if policy == "lora" else None,
        )
    training_mode(model)
    return learning


def training_mode(model: nn.Module) -> None:
    """Put what learns in training mode, and what does not, and batch normalisation, in `eval`.

    Call it instead of `model.train()`, after each `model.eval()`.
    """
    model.train()
    for module in model.modules():
        learns = [weight.requires_grad for weight in module.parameters()]
        if isinstance(module, _BatchNorm) or (learns and not any(learns)):
            module.eval()


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """After a block, let learn what learnt before it, without gradients and in the mode it had."""
    training, learnt = model.training, {id(p): p.requires_grad for p in model.parameters()}
    try:
        yield
    finally:
        model.train(training)
        for p in model.parameters():
            p.requires_grad_(learnt.get(id(p), True))  # adapters are new
            p.grad = None


def _learns(name: str, policy: Policy) -> bool:
    """Tell whether the weight of a name learns under a policy."""
    if policy == "full":
        return True
    if policy == "lora":
        return _ADAPTER in name
    # A wrapper puts its own names before those of the model.
    dotted = f".{name}"
    if policy == "all_but_encoder":
        return ".image_encoder." not in dotted
    parts = _DECODERS if policy == "decoder" else (*_DECODERS, *_PROMPT_ENCODERS)
    return any(f".{part}." in dotted for part in parts) and not any(
        f".{part}." in dotted for part in _ENCODING
    )
