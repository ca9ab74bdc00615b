"""The files of a run: the state it can go on from, and weights that every tool of Nexus loads."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nexus.core.errors import CheckpointError, InputError
from nexus.core.files import ANEW_HINT, replacing
from nexus.core.room import bytes_of, room_for
from nexus.models.policy import Policy
from nexus.models.pretrained import policy_words
from nexus.train.config import RunSettings
from nexus.train.figures import Figure

STATE, BEST, LAST, ADAPTER = "state.pt", "best.safetensors", "last.safetensors", "adapter"
_FORMAT = "nexus.training_state.2"
_UNREADABLE = (RuntimeError, EOFError, ValueError, LookupError, OSError, pickle.UnpicklingError)
# What may be another when a run is taken up again: it changes no figure.
_FREE = ("model.device", "data.root", "cache.folder", "checkpoint_every")


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        step: Steps done.
        elapsed_s: Time spent in them.
        best: The highest figure so far by which checkpoints are chosen.
        best_step: After how many steps it was reached.
        waiting: Measurements since then.
        stopped: Training ended before its budget, for want of improvement.
        figures: All measurements, by step.
    """

    step: int = 0
    elapsed_s: float = 0.0
    best: float | None = None
    best_step: int = 0
    waiting: int = 0
    stopped: bool = False
    figures: dict[int, list[Figure]] = dataclasses.field(default_factory=dict)

    def plain_figures(self) -> dict[str, list[dict[str, Any]]]:
        """Return the measurements as plain values, for JSON."""
        return {
            str(step): [dataclasses.asdict(figure) for figure in figures]
            for step, figures in self.figures.items()
        }


def identity_of(settings: RunSettings, data_digest: str, base_digest: str) -> dict[str, Any]:
    """Return what must be the same when a run is taken up again, by dotted names."""
    flat = _flat(dataclasses.asdict(settings))
    kept = {name: value for name, value in flat.items() if name not in _FREE}
    return {**kept, "(data)": data_digest, "(model)": base_digest}


def save_state(
    path: Path,
    identity: Mapping[str, Any],
    state: RunState,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
) -> None:
    """Write all a run needs to go on, whole or not at all.

    Raises:
        NexusError: The disk is full; the former state stays.
        OSError: It cannot be written.
    """
    content = {
        "format": _FORMAT,
        "identity": json.dumps(identity),
        "state": json.dumps({**vars(state), "figures": state.plain_figures()}),
        "weights": {
            **{name: p.detach() for name, p in module.named_parameters() if p.requires_grad},
            **{name: buffer.detach() for name, buffer in module.named_buffers()},
        },
        "optimizer": optimizer.state_dict(),
        "average": dict(average),
        "random": torch.get_rng_state(),
    }
    # By a path torch would say nothing of why it cannot write.
    with (
        room_for(path, bytes_of(content)),
        replacing(path) as temporary,
        temporary.open("wb") as stream,
    ):
        torch.save(content, stream)


def load_state(
    path: Path, identity: Mapping[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[RunState, dict[str, Tensor]]:
    """Take up a state: fill the module and the optimizer; return where the run is, and its average.

    Raises:
        CheckpointError: Not a state, or a damaged one.
        InputError: The state is of a run with other settings or data; they are named.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise _no_state(path, str(error).partition("\n")[0]) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _no_state(path, "another file")
    found = json.loads(content["identity"])
    other = [
        f"{name} was {found.get(name)!r} and is {identity.get(name)!r}"
        for name in sorted({*found, *identity})
        if found.get(name) != identity.get(name)
    ]
    if other:
        raise InputError(
            f"expected the run that was begun in {str(path.parent)!r}, got another: "
            + "; ".join(other[:4])
            + (f"; and {len(other) - 4} more" if len(other) > 4 else ""),
            hint=f"set back what was changed, or {ANEW_HINT}",
        )
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, tensor in content["weights"].items():
            own[name].copy_(tensor)
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    values = json.loads(content["state"])
    figures = {
        int(step): [Figure(**figure) for figure in measured]
        for step, measured in values.pop("figures").items()
    }
    return RunState(**values, figures=figures), content["average"]


def header_of(variant: str, policy: Policy, notes: Mapping[str, Any]) -> dict[str, str]:
    """Return the words for the header of a fine-tuned checkpoint.

    What its policy has otherwise than the table of models says, such as that clicks were taught,
    travels with the weights, and `from_checkpoint` takes it up; so do `notes`, plain values.
    """
    training = {"nexus_variant": variant, "nexus_training": json.dumps(notes, sort_keys=True)}
    return training | policy_words(variant, policy)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Name nested values by dots; tuples become lists, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{before}{name}."))
        else:
            flat[before + name] = json.loads(json.dumps(value))
    return flat


def _no_state(path: Path, got: str) -> CheckpointError:
    return CheckpointError(
        f"expected the state of a training run at {str(path)!r}, got {got}",
        hint=ANEW_HINT,
    )
