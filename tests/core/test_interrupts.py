from __future__ import annotations

import signal
import threading

import pytest

from nexus.core.interrupts import uninterrupted


@pytest.mark.usefixtures("ctrl_c")
def test_a_block_runs_to_its_end() -> None:
    """Ctrl-C during the block is delivered after it, once."""
    steps = []

    @uninterrupted()
    def run() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        steps.append("after the interrupt")

    with pytest.raises(KeyboardInterrupt):
        run()

    assert steps == ["after the interrupt"]


@pytest.mark.usefixtures("ctrl_c")
def test_blocks_nest() -> None:
    """An interrupt in an inner block is delivered after the outermost."""
    steps = []

    @uninterrupted()
    def run() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        steps.append("after the inner block")

    with pytest.raises(KeyboardInterrupt):
        run()

    assert steps == ["after the inner block"]


def test_the_handler_is_put_back() -> None:
    """After the block the former handler is in place, also after an error."""
    former = signal.getsignal(signal.SIGINT)

    with pytest.raises(ValueError, match="of the block"), uninterrupted():
        raise ValueError("of the block")

    assert signal.getsignal(signal.SIGINT) is former


def test_an_ignored_interrupt_stays_ignored() -> None:
    """A background job of a shell without job control starts that way, and Ctrl-C passes it by."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        found = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)

    assert found is signal.SIG_IGN


def test_other_threads_may_use_it() -> None:
    """Outside the main thread the block just runs."""
    steps = []

    def run() -> None:
        with uninterrupted():
            steps.append("ran")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert steps == ["ran"]
