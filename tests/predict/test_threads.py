"""Work over the cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nexus.predict.threads import available_cores, over_cores, pinned

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


@pytest.mark.usefixtures("two_threads")
def test_two_callers_leave_the_threads_as_they_were() -> None:
    """The first to leave does not put back what the other still counts on; the last one does."""

    def fresh() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result(60)

    began, left = threading.Barrier(3, timeout=60), threading.Event()

    def work(part: int) -> None:
        began.wait()
        assert left.wait(60)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(over_cores, work, [1, 2], _CPU)
        began.wait()
        over_cores(lambda part: part, [1, 2], _CPU)
        between = fresh()
        left.set()
        slow.result(60)

    assert between == 1
    assert fresh() == torch.get_num_threads() == 2


def test_pinned_threads_are_let_go() -> None:
    """Also after an error; None changes nothing."""
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="x"), pinned(3):
        inside = torch.get_num_threads()
        raise ValueError("x")
    with pinned(None):
        unpinned = torch.get_num_threads()

    assert inside == 3
    assert unpinned == before == torch.get_num_threads()


def test_cores_are_those_the_process_may_use() -> None:
    """At least one, and no more than the machine has."""
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
