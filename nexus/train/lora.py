"""Low-rank adapters (LoRA) in the attention and MLPs of any backbone, through peft.

Follows "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). The adapters are
peft's own layers inside a model that stays what it is, so that `predict` and everything else goes
on working. A saved adapter is a folder in peft's format, which also says on which weights it was
trained: on others its differences mean nothing, and it is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from nexus.core.errors import CheckpointError, InputError, WeightsNotFoundError
from nexus.core.files import write_text
from nexus.core.packages import optional_module
from nexus.core.room import bytes_of, room_for
from nexus.core.weights.checkpoint import refuse_broken_numbers
from nexus.core.weights.tensor_file import write_tensors
from nexus.models.pretrained import policy_of_file, policy_words
from nexus.models.promptable import PromptableModel

Targets = Literal["attention", "attention_and_mlp"]
Where = Literal["encoder", "decoder", "both"]
_Model = TypeVar("_Model", bound=PromptableModel)

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
ADAPTER_FILES = (_CONFIG, _WEIGHTS)
"""What `save_adapter` writes."""
_PREFIX = "base_model.model."  # before every name in peft's files
_ADAPTER = "default"
_RECORD = "nexus.adapter.1"

# Layers by their names in a part of a model. A RepViT has no attention; what its paper calls
# channel mixers are the MLPs of a backbone of convolutions.
_ENCODER_ATTENTION = re.compile(r".*\.attn\.(qkv|proj)")
_ENCODER_MLP = re.compile(
    r".*\.(mlp\.(lin[12]|fc[12]|layers\.\d+)|(channel_mixer|ffn)\.conv[12]\.c)"
)
_DECODER_ATTENTION = re.compile(r"transformer\..*\.?([qkv]|out)_proj")
_DECODER_MLP = re.compile(r"transformer\..*\.mlp\.(lin[12]|layers\.\d+)")


def add_lora(
    model: _Model,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: Targets = "attention",
    where: Where = "encoder",
) -> _Model:
    """Put adapters in a model, which alone learn from then on; it answers as before at first.

    Args:
        model: The model; it is changed.
        rank: Rank of the differences that are learnt.
        alpha: They count alpha / rank times.
        dropout: Share of a layer's inputs that are left out in training. The decoder projects an
            image through combined weights, so that there whole channels are left out.
        targets: The projections of attention; or those and the MLPs.
        where: In the image encoder, the mask decoder's transformer, or both.

    Returns:
        The model.

    Raises:
        InputError: A value that cannot be, a model with adapters, or a backbone without such
            layers.
        MissingDependencyError: peft is not installed.
    """
    peft = _peft()
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise InputError(f"expected a rank of 1 or more, got {rank!r}")
    if not alpha > 0 or not 0 <= dropout < 1:
        raise InputError(
            f"expected alpha above 0 and dropout from 0 to below 1, got {alpha!r} and {dropout!r}"
        )
    _refuse_adapted(model)
    names = target_names(model, targets, where)
    shape = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "bias": "none"}
    _inject(peft, model, peft.LoraConfig(**shape, target_modules=names))
    return model


def target_names(model: nn.Module, targets: Targets, where: Where) -> list[str]:
    """Return the names of the layers `add_lora` puts adapters in.

    Raises:
        InputError: Unknown words, or a part of the model without such layers.
    """
    for value, choices in ((targets, get_args(Targets)), (where, get_args(Where))):
        if value not in choices:
            raise InputError(f"expected one of {', '.join(choices)}, got {value!r}")
    decoder = "mask_decoder" if hasattr(model, "mask_decoder") else "sam_mask_decoder"
    parts = {
        "image_encoder": (where != "decoder", _ENCODER_ATTENTION, _ENCODER_MLP),
        decoder: (where != "encoder", _DECODER_ATTENTION, _DECODER_MLP),
    }
    names = []
    for part, (wanted, attention, mlp) in parts.items():
        patterns = [attention, mlp] if targets == "attention_and_mlp" else [attention]
        found = [
            f"{part}.{name}"
            for name, module in model.get_submodule(part).named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
            and any(p.fullmatch(name) for p in patterns)
        ]
        if wanted and not found:
            raise InputError(
                f"expected an {part} with attention, got one of convolutions alone",
                hint="targets='attention_and_mlp' adapts its 1 x 1 convolutions",
            )
        names += found if wanted else []
    return names


def save_adapter(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write the adapters of a model to a folder in peft's format; return its path.

    Args:
        model: What `add_lora` returned, or peft's `get_peft_model`.
        folder: It is made if need be; an adapter in it is replaced.

    Raises:
        InputError: A model without adapters, or one in which more than they learns or has learnt.
        MissingDependencyError: peft is not installed.
        OSError: A file cannot be written.
    """
    peft = _peft()

    base, config = _base(model)
    learning = (name for name, weight in base.named_parameters() if weight.requires_grad)
    others = [name for name in learning if ".lora_" not in name]
    if others:
        raise InputError(
            f"expected adapters alone to learn, got {len(others)} other weights: {others[0]}",
            hint="an adapter cannot hold them: merge(model), then save_checkpoint(model, path)",
        )
    fingerprint = base_fingerprint(base)
    if config.revision not in (None, fingerprint):
        raise InputError(
            "expected the base model that the adapters were put in, got one that changed since",
            hint="batch normalisation in training mode changes its statistics: use "
            "nexus.train.freezing.training_mode(model) in place of model.train()",
        )
    noted = {"base_model_name_or_path": base.variant, "revision": fingerprint}
    values = config.to_dict() | noted | {"inference_mode": True}
    values = {k: sorted(v) if isinstance(v, set) else v for k, v in values.items()}
    state = peft.get_peft_model_state_dict(base, adapter_name=_ADAPTER, save_embedding_layers=False)
    tensors = {_PREFIX + name: t for name, t in state.items()}
    record = {"format": _RECORD, "model": base.variant, "fingerprint": fingerprint}
    target = Path(folder)
    write_text(target / _CONFIG, json.dumps(values, indent=2, sort_keys=True) + "\n")
    metadata = {"nexus": json.dumps(record), **policy_words(base.variant, base.policy)}
    with room_for(target / _WEIGHTS, bytes_of(state)):
        write_tensors(target / _WEIGHTS, tensors, metadata)
    return target


def load_adapter(model: _Model, folder: str | os.PathLike[str]) -> _Model:
    """Put the adapters of a folder in the model they were trained on.

    What its policy was otherwise than the table of models says, such as that clicks were taught,
    comes with them.

    Args:
        model: Such as `SAM.from_pretrained(name)`; it is changed. Its adapters can go on
            learning, or `merge` makes them part of its weights.
        folder: What `save_adapter` wrote.

    Returns:
        The model, in `eval` mode.

    Raises:
        InputError: The model has adapters already.
        WeightsNotFoundError: There is no adapter in the folder.
        CheckpointError: Damaged, not LoRA, or trained on other weights.
        MissingDependencyError: peft is not installed.
    """
    peft = _peft()
    _refuse_adapted(model)
    source = Path(folder)
    values = _read_config(source)
    state, record = _read_weights(source / _WEIGHTS)
    have = {"model": model.variant, "fingerprint": base_fingerprint(model)}
    made = {key: record.get(key) for key in have}
    if made != have:
        raise CheckpointError(
            f"expected an adapter of this {model.variant}, {have['fingerprint']}, got one trained "
            f"on {made['model']}, {made['fingerprint']}, in {str(source)!r}",
            hint="load the weights it was trained on, then the adapter",
        )
    policy = policy_of_file(source / _WEIGHTS, model.policy)
    _inject(peft, model, peft.LoraConfig(**values))
    wanted = peft.get_peft_model_state_dict(
        model, adapter_name=_ADAPTER, save_embedding_layers=False
    )
    if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in state.items()}:
        _unload(model)
        raise CheckpointError(
            f"expected the {len(wanted)} tensors that {_CONFIG} describes, got {len(state)} in "
            f"{str(source)!r} of other names or shapes"
        )
    peft.set_peft_model_state_dict(model, state, adapter_name=_ADAPTER)
    model.policy = policy
    model.eval()
    return model


def merge(model: nn.Module) -> PromptableModel:
    """Make the adapters of a model part of its weights; equal outputs, official names again.

    Args:
        model: What `add_lora`, `load_adapter` or peft's `get_peft_model` returned; it is changed.

    Returns:
        The plain model, in `eval` mode, all of whose weights can learn.

    Raises:
        InputError: A model without adapters.
        MissingDependencyError: peft is not installed.
    """
    _peft()
    base, _ = _base(model)
    with torch.no_grad():
        for _, layer in _adapted(base):
            layer.merge(safe_merge=True)
    _unload(base)
    base.requires_grad_(True)
    base.eval()
    return base


def base_fingerprint(model: PromptableModel) -> str:
    """Return a digest of all weights of a model (sampled), its adapters left out."""
    return weights_digest(model.variant, model.state_dict())


def weights_digest(words: str, weights: Mapping[str, Tensor]) -> str:
    """Return a digest of words and of weights by name (sampled), adapters left out."""
    digest = hashlib.sha256(words.encode())
    own = ((n.replace(".base_layer.", "."), n) for n in weights if ".lora_" not in n)
    for name, stored in sorted(own):
        flat = weights[stored].detach().flatten()
        # Through bfloat16, so that a model keeps its digest in another number format.
        sample = flat[:: max(1, flat.numel() // 8)].to(torch.bfloat16).float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _inject(peft: Any, model: PromptableModel, config: Any) -> None:
    """Put peft's layers in place of those a configuration names."""
    config.base_model_name_or_path, config.revision = model.variant, base_fingerprint(model)
    peft.inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for _, layer in _adapted(model):
        layer.train(model.training)  # new layers come in training mode


def _refuse_adapted(model: nn.Module) -> None:
    if getattr(model, "peft_config", None):
        raise InputError(
            "expected a model without adapters, got one that has some",
            hint="make them part of its weights first: nexus.train.lora.merge(model)",
        )


def _adapted(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the layers that peft put in, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]


def _unload(model: nn.Module) -> None:
    """Put the layers back that peft's stand in for."""
    for name, layer in _adapted(model):
        model.set_submodule(name, layer.get_base_layer())
    del model.peft_config


def _base(model: nn.Module) -> tuple[PromptableModel, Any]:
    """Return the model, if need be out of peft's wrapper, and what its adapters are."""
    base: Any = getattr(model, "get_base_model", lambda: model)()
    configs = getattr(base, "peft_config", {})
    if _ADAPTER not in configs:
        raise InputError(
            f"expected a model with adapters, got a plain {type(base).__name__}",
            hint="put them in with nexus.train.lora.add_lora(model)",
        )
    return base, configs[_ADAPTER]


# Other fields of peft's configuration name Python modules to import, or need files of their own.
_FIELDS = {"r", "lora_alpha", "lora_dropout", "bias", "target_modules"}
_FIELDS |= {"rank_pattern", "alpha_pattern", "use_rslora", "use_dora"}


def _read_config(folder: Path) -> dict[str, Any]:
    """Read what a configuration says of adapters that this module makes."""
    path = folder / _CONFIG
    if not path.is_file() or not (folder / _WEIGHTS).is_file():
        raise WeightsNotFoundError(
            f"expected an adapter, {_CONFIG} and {_WEIGHTS}, in {str(folder)!r}, got no such files"
        )
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"expected JSON in {str(path)!r}, got: {error}") from error
    kind = values.get("peft_type") if isinstance(values, dict) else None
    if kind != "LORA":
        raise CheckpointError(f"expected an adapter of type LORA in {str(path)!r}, got {kind!r}")
    return {name: value for name, value in values.items() if name in _FIELDS}


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read adapters by name, and what was noted of their base."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {n.removeprefix(_PREFIX): file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
            record = json.loads((file.metadata() or {}).get("nexus", "{}"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"expected a whole safetensors file, got {str(path)!r}") from error
    if record.get("format") != _RECORD:
        raise CheckpointError(
            f"expected a note of the base model in {str(path)!r}, got none",
            hint="save_adapter writes it; to take an adapter on trust use peft.PeftModel",
        )
    refuse_broken_numbers(state, str(path))
    return state, record


def _peft() -> Any:
    return optional_module("peft", "for adapters", '"nexus-segmentation[train]"')
