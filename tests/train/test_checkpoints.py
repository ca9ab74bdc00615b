"""The state a run goes on from, and the words in the head of its weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nexus.core.errors import CheckpointError, InputError
from nexus.models.registry import MODELS
from nexus.train.checkpoints import RunState, header_of, identity_of, load_state, save_state
from nexus.train.config import CacheSettings, OptimizerSettings
from nexus.train.figures import Figure
from tests.train.tiny_run import tiny_settings


def learner() -> tuple[nn.Module, torch.optim.AdamW]:
    """Return a layer that has learnt for a step."""
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return layer, optimizer


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    """Weights, optimizer, average, chance and figures are what they were."""
    layer, optimizer = learner()
    state = RunState(step=7, elapsed_s=1.5, best=0.5, best_step=3)
    state.figures[0] = [Figure("box", "all", 0.5, 4)]
    average = {"weight": torch.full((2, 3), 9.0)}
    save_state(tmp_path / "s.pt", {"seed": 1}, state, layer, optimizer, average)
    drawn = torch.rand(1)

    other, other_optimizer = learner()
    loaded, loaded_average = load_state(tmp_path / "s.pt", {"seed": 1}, other, other_optimizer)

    assert loaded == state
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(loaded_average["weight"], average["weight"])
    first, second = (o.state_dict()["state"][0]["exp_avg"] for o in (optimizer, other_optimizer))
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(1), drawn)
    assert [path.name for path in tmp_path.iterdir()] == ["s.pt"]


def test_the_same_state_is_the_same_file(tmp_path: Path) -> None:
    """Two runs that come to the same state leave files of one digest."""
    layer, optimizer = learner()
    for name in ("a.pt", "b.pt"):
        save_state(tmp_path / name, {"seed": 1}, RunState(step=7), layer, optimizer, {})

    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_another_file_is_refused(tmp_path: Path) -> None:
    """What is not a state, or cut off, or of another run, says so."""
    layer, optimizer = learner()
    path = tmp_path / "s.pt"
    path.write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="expected the state of a training run at"):
        load_state(path, {}, layer, optimizer)

    torch.save({"weights": {}}, path)
    with pytest.raises(CheckpointError, match="got another file"):
        load_state(path, {}, layer, optimizer)

    save_state(path, {"seed": 1, "model.name": "a"}, RunState(), layer, optimizer, {})
    with pytest.raises(InputError, match="seed was 1 and is 2"):
        load_state(path, {"seed": 2, "model.name": "a"}, layer, optimizer)


def test_what_changes_no_figure_may_change(tmp_path: Path) -> None:
    """Where data and embeddings lie is not what a run is; its learning rate is."""
    settings = tiny_settings(tmp_path)
    moved = dataclasses.replace(
        settings,
        cache=CacheSettings("elsewhere"),
        data=dataclasses.replace(settings.data, root="elsewhere"),
    )
    faster = dataclasses.replace(settings, optimizer=OptimizerSettings(steps=6, rows=2))

    identity = identity_of(settings, "d", "f")
    assert identity_of(moved, "d", "f") == identity
    assert identity_of(faster, "d", "f") != identity
    assert identity_of(settings, "e", "f") != identity


def test_the_head_has_what_the_policy_has_otherwise() -> None:
    """A policy of the table needs no word; what differs is named."""
    usual = MODELS["lite_medsam"].policy

    plain = header_of("lite_medsam", usual, {"step": 3})
    taught = header_of("lite_medsam", dataclasses.replace(usual, box_only=False), {})

    assert set(plain) == {"nexus_variant", "nexus_training"}
    assert json.loads(plain["nexus_training"]) == {"step": 3}
    assert json.loads(taught["nexus_policy"]) == {"box_only": False}
