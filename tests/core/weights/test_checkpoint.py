"""Weights are read from any honest file, and nothing in a file is ever run."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nexus.core.errors import CheckpointError, WeightsNotFoundError
from nexus.core.weights.checkpoint import load_strict, read_checkpoint, read_metadata

_STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class _Attack:
    """A pickle of this makes a file when it is run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def _same(state: dict[str, torch.Tensor]) -> bool:
    return list(state) == list(_STATE) and all(torch.equal(state[k], _STATE[k]) for k in _STATE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
def test_torch_files(path: Path, wrapper: str | None, zipped: bool) -> None:
    """Both formats of torch.save are read, wrapped in the usual ways or not."""
    content: dict[str, Any] = _STATE if wrapper is None else {wrapper: _STATE, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    assert _same(read_checkpoint(path))


def test_safetensors_by_content(tmp_path: Path) -> None:
    """A safetensors file is known by its content, whatever its suffix."""
    for name in ("weights.safetensors", "weights.bin"):
        save_file(_STATE, tmp_path / name)
        state = read_checkpoint(str(tmp_path / name))

        assert {k: v.tolist() for k, v in state.items()} == {
            k: v.tolist() for k, v in _STATE.items()
        }


def test_words_in_the_head(tmp_path: Path, path: Path) -> None:
    """The head of a safetensors file has words; other files have none, and damage is named."""
    worded = tmp_path / "weights.bin"
    save_file(_STATE, worded, metadata={"maker": "somebody"})
    torch.save(_STATE, path)

    assert read_metadata(worded) == {"maker": "somebody"}
    assert read_metadata(path) == {}
    worded.write_bytes(worded.read_bytes()[:60])
    with pytest.raises(CheckpointError, match="expected a whole torch or safetensors file"):
        read_metadata(worded)


def test_data_parallel_prefix(path: Path) -> None:
    """`module.` is taken off when every name has it, and left alone otherwise."""
    torch.save({f"module.{name}": value for name, value in _STATE.items()}, path)
    some_have_it = path.with_name("other.pth")
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, some_have_it)

    assert _same(read_checkpoint(path))
    assert list(read_checkpoint(some_have_it)) == ["module.a", "b"]


def test_missing_file(path: Path) -> None:
    """A file that is not there is a FileNotFoundError with the path in it."""
    with pytest.raises(WeightsNotFoundError, match=f"checkpoint file at {path}, got no such file"):
        read_checkpoint(path)

    assert issubclass(WeightsNotFoundError, FileNotFoundError)


def test_folder(tmp_path: Path) -> None:
    """A folder is called a folder."""
    with pytest.raises(CheckpointError, match="expected a checkpoint file, got the folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "got an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "got a Git LFS pointer"),
        (b"\n <!DOCTYPE html><html>sign in</html>", "got a web page"),
        (b"just some words, no weights", "cut off, damaged or of another kind"),
        (b"\x80", "cut off, damaged or of another kind"),
        (b"\x00" * 5000, "cut off, damaged or of another kind"),
    ],
)
def test_not_a_checkpoint(path: Path, content: bytes, words: str) -> None:
    """What stands where a checkpoint should be is called by its name."""
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(path)

    assert str(path) in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_truncated_torch_file(path: Path, zipped: bool, share: float) -> None:
    """A torch file cut off anywhere is damaged, not a crash and not an attack."""
    torch.save(
        {f"w{i}": torch.ones(50) for i in range(50)}, path, _use_new_zipfile_serialization=zipped
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(CheckpointError, match=f"of {int(len(content) * share)} bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize("kept", [9, 40, 150])
def test_truncated_safetensors(tmp_path: Path, kept: int) -> None:
    """A safetensors file cut off in its header or its data is damaged."""
    path = tmp_path / "weights.safetensors"
    save_file(_STATE, path)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(CheckpointError, match="expected a whole torch or safetensors file"):
        read_checkpoint(path)


def test_zip_of_something_else(path: Path) -> None:
    """A zip archive without tensors is called one."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    with pytest.raises(CheckpointError, match="got a zip archive that torch cannot read"):
        read_checkpoint(path)


def test_torchscript(path: Path) -> None:
    """A TorchScript archive, which is code, is not read."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}))
        archive.writestr("m/constants.pkl", pickle.dumps(()))
        archive.writestr("m/code/__torch__.py", "")
        archive.writestr("m/version", "3")

    with pytest.raises(CheckpointError, match="got a TorchScript archive, which is code"):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "old pickle"])
def test_pickle_with_code_in_it(path: Path, tmp_path: Path, form: str) -> None:
    """Code in a pickle is never run; the message names what was asked for."""
    trace = tmp_path / "trace"
    content = {**_STATE, "attack": _Attack(trace)}
    if form in ("zip", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    else:
        protocol = 0 if form == "old pickle" else 4
        path.write_bytes(pickle.dumps(_Attack(trace), protocol=protocol))

    with pytest.raises(CheckpointError, match=r"asks to run code in .*: .*(posix|nt)\.system"):
        read_checkpoint(path)

    assert not trace.exists()


def test_harmless_objects_of_a_training_run(path: Path) -> None:
    """Arguments of a training script beside the weights are refused by name, with a way out."""
    torch.save({"model": _STATE, "args": argparse.Namespace(lr=1)}, path)

    with pytest.raises(CheckpointError, match=r"argparse\.Namespace\nhint: it is not run.*torch\."):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "got a list"),
        ({}, "got a dict without entries"),
        ({"model": {}}, "got a dict without entries"),
        ({"a": torch.ones(1), "epoch": 3}, "got other entries: epoch"),
        ({1: torch.ones(1)}, "got other entries: 1"),
        (torch.ones(1), "got a Tensor"),
    ],
)
def test_content_that_is_no_state_dict(path: Path, content: Any, words: str) -> None:
    """What is not a dict of tensors by name is refused."""
    torch.save(content, path)

    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)


def _module(width: int = 3) -> torch.nn.Module:
    return torch.nn.ModuleDict({"a": torch.nn.Linear(width, 2)})


def test_load_strict_fills() -> None:
    """Values arrive, in the module's number format, without shared memory."""
    module = _module().to(torch.float64)
    state = {name: value.clone() for name, value in _STATE.items()}

    load_strict(module, state, what="tiny", source="x.pth")
    state["a.bias"].zero_()

    assert module.state_dict()["a.bias"].tolist() == [1.0, 1.0]
    assert module.state_dict()["a.weight"].dtype == torch.float64


def test_load_strict_fills_a_meta_module() -> None:
    """A module without memory gets its own, in its own number format, trainable as before."""
    with torch.device("meta"):
        module = _module()
    state = {name: value.to(torch.float16) for name, value in _STATE.items()}

    load_strict(module, state, what="tiny", source="x.pth")
    state["a.bias"].zero_()

    assert module.state_dict()["a.bias"].tolist() == [1.0, 1.0]
    assert all(p.dtype == torch.float32 and p.requires_grad for p in module.parameters())


def test_load_strict_does_not_hold_the_file(path: Path) -> None:
    """A checkpoint may be overwritten once its model is loaded."""
    torch.save(_STATE, path)
    module = _module()
    load_strict(module, read_checkpoint(path), what="tiny", source=str(path))
    path.write_bytes(b"")

    assert _same(dict(module.state_dict()))


def test_checkpoint_of_another_model() -> None:
    """Counts and the first names of each kind of difference are told; nothing is loaded."""
    module = _module(width=4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {"a.weight": torch.ones(2, 3), **{f"b.{i}": torch.ones(1) for i in range(6)}}

    with pytest.raises(CheckpointError) as caught:
        load_strict(module, state, what="tiny", source="x.pth")

    assert caught.value.message == (
        "expected the 2 tensors of tiny, got 7 in x.pth; 1 missing: a.bias; "
        "6 unexpected: b.0, b.1, b.2, b.3, and 2 more; "
        "1 of another shape: a.weight (2, 3) instead of (2, 4)"
    )
    assert "another model or variant" in str(caught.value.hint)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_only_the_shape_differs() -> None:
    """One wrong shape is enough to load nothing at all."""
    module = _module()
    before = module.state_dict()["a.bias"].clone()
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.full((2,), 7.0)}

    with pytest.raises(CheckpointError, match=r"; 1 of another shape: a\.weight \(3, 2\)"):
        load_strict(module, state, what="tiny", source="x.pth")

    assert torch.equal(module.state_dict()["a.bias"], before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite(bad: float) -> None:
    """A checkpoint of a run that diverged is refused by the names of its tensors, not filled in."""
    module = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in before.items()}
    for name in ("1.weight", "2.weight"):
        state[name][0, 1] = bad
    with pytest.raises(CheckpointError, match=r"2 of 6 tensors of a\.pth: 1\.weight, 2\.weight"):
        load_strict(module, state, what="toy", source="a.pth")

    assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


def test_large_weights_in_half_precision_are_finite() -> None:
    """Numbers whose sum is beyond float16 are weights like others."""
    module = torch.nn.Linear(64, 64).half()
    state = {name: torch.full_like(tensor, 6e4) for name, tensor in module.state_dict().items()}
    load_strict(module, state, what="toy", source="a.pth")

    assert module.bias[0] == 6e4


def test_a_torch_file_under_the_name_of_a_safetensors_file(tmp_path: Path) -> None:
    """The suffix is never believed: a model of Nexus loads the file, its head has no words."""
    from nexus.models.cv import SAM
    from tests.models.tiny import tiny_sam

    model = tiny_sam()
    torch.save(model.state_dict(), tmp_path / "a.safetensors")

    assert read_metadata(tmp_path / "a.safetensors") == {}
    assert read_checkpoint(tmp_path / "a.safetensors").keys() == model.state_dict().keys()
    with pytest.raises(CheckpointError, match="tensors of sam_vit_b"):
        SAM.from_checkpoint(tmp_path / "a.safetensors", variant="sam_vit_b")
