"""What the masks of a generator depend on, as plain values that can be kept and compared."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_SAMPLES = 1024
# Neither changes a mask: one is how masks are handed over, the other how many are made at a time.
_WITHOUT_EFFECT = ("output_mode", "points_per_batch")


def describe_generator(generator: Any) -> dict[str, Any]:
    """Return a generator's class, its `settings` and its `model`, as JSON values.

    Two generators with equal descriptions give equal masks, as far as can be told: settings are
    compared by value, weights by a digest of samples from every tensor. What has neither attribute
    is described by its class alone.
    """
    settings, model = (
        _plain(getattr(generator, "settings", None)),
        getattr(generator, "model", None),
    )
    if isinstance(settings, dict):
        settings = {name: settings[name] for name in settings if name not in _WITHOUT_EFFECT}
    return {
        "generator": type(generator).__qualname__,
        **({} if settings is None else {"settings": settings}),
        **({} if model is None else {"model": describe_model(model)}),
    }


def describe_model(model: Any) -> dict[str, Any]:
    """Return what tells a model from others, as JSON values; see `describe_generator`."""
    described: dict[str, Any] = {"class": type(model).__qualname__}
    for name in ("variant", "policy"):
        if hasattr(model, name):
            described[name] = _plain(getattr(model, name))
    if hasattr(model, "state_dict"):
        state = model.state_dict()
        described["dtype"] = sorted({str(t.dtype).removeprefix("torch.") for t in state.values()})
        digest = hashlib.sha256()  # of names, shapes and evenly spaced values
        for name, tensor in sorted(state.items()):
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            flat = tensor.detach().reshape(-1)
            step = max(1, flat.numel() // _SAMPLES)
            digest.update(flat[::step].float().cpu().numpy().tobytes())
        described["weights"] = digest.hexdigest()[:16]
    return described


def _plain(value: Any) -> Any:
    """Return settings of any kind as JSON values; arrays by a digest, the unknown by its class."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        body = np.ascontiguousarray(value).tobytes()
        return f"array {value.shape} {value.dtype} {hashlib.sha256(body).hexdigest()[:16]}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return type(value).__qualname__
