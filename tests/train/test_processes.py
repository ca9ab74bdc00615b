"""One process or several."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from nexus.core.errors import MissingDependencyError
from nexus.train.processes import Processes, starts_first


def test_alone_it_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process keeps its gradients and takes all items, without accelerate."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes("cpu")
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])

    assert processes.average([weight], [3.0]) == [3.0]
    assert weight.grad.tolist() == [1.0, 2.0]
    assert processes.share_of([1, 2, 3]) == processes.gather([1, 2, 3]) == [1, 2, 3]
    assert processes.messages is sys.stderr
    assert Processes("cpu", silent=True).messages is not sys.stderr


def test_on_a_cpu_several_processes_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device asked for, a machine without an accelerator joins them as on a CPU."""

    class State:
        process_index, num_processes, device = 1, 2, torch.device("cpu")

        def __init__(self, cpu: bool | None) -> None:
            asked.append(cpu)

    asked: list[bool | None] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("accelerate.PartialState", State)
    monkeypatch.setattr(
        "nexus.train.processes.resolve_device", lambda device: torch.device(device or "cpu")
    )
    second = Processes(None)
    Processes("cuda")

    assert asked == [True, None]
    assert not second.is_first
    assert not starts_first()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert starts_first()  # a rank without others says nothing


def test_a_gradient_that_one_has_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that only others have counts as zeros here; where there is none, none is made."""
    processes = Processes("cpu")
    theirs = torch.tensor([5.0, 5.0, 4.0, 4.0, 7.0, 7.0, 1.0, 1.0, 1.0, 0.0])  # numbers, reached
    reduced: list[torch.Tensor] = []

    class Utils:
        @staticmethod
        def reduce(mine: torch.Tensor, how: str) -> torch.Tensor:
            reduced.append(mine)
            return (mine + theirs) / 2

    processes._state = object()
    monkeypatch.setattr(
        "nexus.train.processes._accelerate", lambda: type("A", (), {"utils": Utils})
    )
    both, other, nobody = (nn.Parameter(torch.ones(2)) for _ in range(3))
    both.grad = torch.tensor([1.0, 3.0])
    theirs[4:6] = 0  # of `nobody`

    assert processes.average([both, other, nobody], [3.0]) == [2.0]
    assert both.grad.tolist() == [3.0, 4.0]
    assert other.grad is not None
    assert other.grad.tolist() == [2.0, 2.0]
    assert nobody.grad is None


def test_several_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package and the extra."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(MissingDependencyError, match=r"'accelerate' for several .*\nhint: .*train"):
        Processes("cpu")
