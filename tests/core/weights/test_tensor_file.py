"""Tensor files: read by safetensors itself, the same bytes for the same values, the user's mode."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from nexus.core.weights.tensor_file import write_tensors

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
WORDS = {letter: letter for letter in "gfedcba"}


def test_safetensors_reads_every_number_format(tmp_path: Path) -> None:
    """What is written is what its library reads, words of the header included."""
    given = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    given |= {"scalar": torch.tensor(7.0), "empty": torch.zeros(0, 4), "view": torch.eye(3)[:, 1]}
    path = write_tensors(tmp_path / "deep" / "a.safetensors", given, WORDS)

    read = load_file(path)
    assert read.keys() == given.keys()
    for name, tensor in given.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    with safe_open(path, "pt") as file:
        assert file.metadata() == WORDS


def test_the_same_values_are_the_same_bytes(tmp_path: Path) -> None:
    """Neither the order of names and words nor the name of the file shows in the file."""
    first = write_tensors(
        tmp_path / "a", {"x": torch.ones(2), "y": torch.zeros(3, dtype=torch.uint8)}, WORDS
    )
    other = dict(sorted(WORDS.items()))
    second = write_tensors(
        tmp_path / "b", {"y": torch.zeros(3, dtype=torch.uint8), "x": torch.ones(2)}, other
    )

    assert first.read_bytes() == second.read_bytes()


def test_the_layout_is_that_of_the_library(tmp_path: Path) -> None:
    """Without words, where the library keeps an order, the bytes are the library's own."""
    given = {"b": torch.zeros(3), "a": torch.ones(2, dtype=torch.float16), "c": torch.ones(5)}
    path = write_tensors(tmp_path / "a", given)

    assert path.read_bytes() == save(given)


@pytest.mark.skipif(os.name == "nt", reason="the umask is of POSIX systems")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_the_users_umask_decides_who_reads_it(tmp_path: Path, umask: int) -> None:
    """A colleague reads weights as any other file that is written."""
    former = os.umask(umask)
    try:
        path = write_tensors(tmp_path / "a", {"x": torch.ones(2)})
    finally:
        os.umask(former)

    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
