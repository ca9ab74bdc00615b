"""One process or several."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from nexus.core.errors import MissingDependencyError
from nexus.train.processes import Processes, share_of


def test_alone_it_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process keeps its gradients and takes all items, without accelerate."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes("cpu")
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])

    assert processes.average([weight], [3.0]) == [3.0]
    assert weight.grad.tolist() == [1.0, 2.0]
    assert share_of([1, 2, 3], processes) == processes.gather([1, 2, 3]) == [1, 2, 3]
    assert processes.messages is sys.stderr


def test_several_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package and the extra."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(MissingDependencyError, match=r"'accelerate' for several .*\nhint: .*train"):
        Processes("cpu")
