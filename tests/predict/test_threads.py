"""Work over the cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from nexus.predict.threads import over_cores

_CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let PyTorch use two threads for a test, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_parts_run_side_by_side_with_one_thread_each() -> None:
    """Two parts that wait for each other both end; results keep their order."""
    meeting = threading.Barrier(2, timeout=60)

    def work(part: int) -> tuple[int, int]:
        meeting.wait()
        return part, torch.get_num_threads()

    assert over_cores(work, [3, 1], _CPU) == [(3, 1), (1, 1)]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_reaches_the_caller() -> None:
    """The first in the order of the parts; PyTorch keeps its threads."""

    def work(part: int) -> int:
        raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 0"):
        over_cores(work, range(9), _CPU)

    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("threads", "device"), [(1, "cpu"), (2, "meta")])
def test_one_core_and_accelerators_do_the_parts_in_turn(threads: int, device: str) -> None:
    """No thread is started: the work is done by the caller's own."""
    torch.set_num_threads(threads)
    callers = over_cores(lambda _: threading.get_ident(), [1, 2, 3], torch.device(device))

    assert callers == [threading.get_ident()] * 3
