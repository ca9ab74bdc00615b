"""A full disk in words."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from nexus.core.errors import InputError, NexusError
from nexus.core.room import bytes_of, room_for


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_space_is_named(error: Exception, tmp_path: Path) -> None:
    """What was needed and what is free, whoever was writing; also below another error."""
    for raised in (error, RuntimeError("unexpected pos 64")):
        raised.__context__ = None if raised is error else error
        with (
            pytest.raises(NexusError, match=r"room for 3\.0 MiB .*a\.bin', got .*iB free: ") as got,
            room_for(tmp_path / "a.bin", 3 * 2**20),
        ):
            raise raised

        assert "make room" in str(got.value.hint)


def test_other_errors_pass(tmp_path: Path) -> None:
    """A folder that may not be written is not a full disk, and what was said is said once."""
    with pytest.raises(PermissionError), room_for(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ValueError, match="other"), room_for(tmp_path):
        raise ValueError("other")
    with pytest.raises(InputError, match="^first$"), room_for(tmp_path):
        try:
            raise InputError("first")
        finally:
            raise OSError(errno.ENOSPC, "while a file was closed")


def test_bytes_are_counted() -> None:
    """Of tensors and arrays, however deep; other values weigh nothing."""
    content = {"a": torch.zeros(3), "b": [np.zeros(2), {"c": torch.zeros(5, dtype=torch.int8)}]}

    assert bytes_of({**content, "words": "abc", "number": 1, "none": None}) == 12 + 16 + 5
