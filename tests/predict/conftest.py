from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest
import torch

from tests.predict.clusters import Cluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Put a cluster in the place of Ray."""
    found = Cluster()
    ray = types.ModuleType("ray")
    for name in ("is_initialized", "init", "shutdown"):
        monkeypatch.setattr(ray, name, getattr(found, name), raising=False)
    data = types.ModuleType("ray.data")
    monkeypatch.setattr(data, "from_items", found.from_items, raising=False)
    monkeypatch.setattr(ray, "data", data, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    threads = torch.get_num_threads()
    yield found
    torch.set_num_threads(threads)
