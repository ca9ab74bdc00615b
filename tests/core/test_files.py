"""Replacing files whole, and errors and devices."""

from __future__ import annotations

import pickle
import signal
import threading
from pathlib import Path

import pytest
import torch

from nexus.core.device import resolve_device, resolve_dtype
from nexus.core.errors import ImageError, InputError
from nexus.core.files import replacing, uninterrupted, write_text, writing


def test_a_file_appears_whole(tmp_path: Path) -> None:
    """The name is taken only when the block is done; the suffix of the temporary name is kept."""
    target = tmp_path / "a" / "b.png"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == ".png"

    assert target.read_text() == "new"
    assert len(list(target.parent.iterdir())) == 1


def test_an_interrupted_write_leaves_the_former_file(tmp_path: Path) -> None:
    """Even Ctrl-C leaves the old content and no litter."""
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_text_is_written_whole(tmp_path: Path) -> None:
    """Text arrives in UTF-8 with its own line ends, or the former file stays."""
    path = write_text(tmp_path / "new" / "a.txt", "ä\nb\n")
    with pytest.raises(ZeroDivisionError), writing(path) as stream:
        stream.write("half")
        _ = 1 / 0

    assert path.read_bytes() == "ä\nb\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_errors_survive_a_worker_process() -> None:
    """Pickled and back, message and hint are there."""
    error = pickle.loads(pickle.dumps(ImageError("expected a, got b", hint="do c")))

    assert type(error) is ImageError
    assert str(error) == "expected a, got b\nhint: do c"


def test_devices_and_number_formats_are_resolved() -> None:
    """None takes the best device present and float32."""
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(None).type in ("cuda", "mps", "cpu")
    assert resolve_device(torch.device("cpu")).type == "cpu"
    assert resolve_dtype(None) is torch.float32
    assert resolve_dtype("torch.bfloat16") is torch.bfloat16
    with pytest.raises(InputError, match=r"'cuda:1' or 'mps', got 'graphics card'"):
        resolve_device("graphics card")


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
