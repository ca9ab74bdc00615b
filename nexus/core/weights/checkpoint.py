"""Read weights from files that may come from anywhere, without ever running what is in them."""

from __future__ import annotations

import mmap
import os
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from nexus.core.errors import CheckpointError, WeightsNotFoundError

if TYPE_CHECKING:
    import torch

_WRAPPERS = ("model", "state_dict", "model_state_dict")
_PARALLEL_PREFIX = "module."
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_TENSOR_PART = re.compile(
    r"collections\.OrderedDict|torch\.(Size|device|\w+Storage)|torch\._utils\._rebuild_\w+"
)
_SHOWN = 4
# torch answers a file that is cut off or of another kind with any of these.
_TORN: tuple[type[Exception], ...] = (RuntimeError, EOFError, OSError, ValueError, LookupError)
_TORN += (TypeError, AttributeError, AssertionError, struct.error)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors or torch file, by name, on the CPU.

    A dict below `model`, `state_dict` or `model_state_dict` is unwrapped, and the `module.` that
    DataParallel puts before every name is taken off. Tensors of zip-format torch files are mapped
    from the file rather than copied, so do not overwrite the file while they are in use.

    Args:
        path: The file; its content, not its suffix, tells what it is.

    Raises:
        WeightsNotFoundError: There is no such file.
        CheckpointError: Damaged, of another kind, not a dict of tensors, or a pickle with code
            in it, which is refused in every case.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    source = Path(path)
    if source.is_dir():
        raise CheckpointError(f"expected a checkpoint file, got the folder {source}")
    if not source.is_file():
        raise WeightsNotFoundError(f"expected a checkpoint file at {source}, got no such file")
    with source.open("rb") as file:
        head = file.read(512)
    _refuse_stand_ins(source, head)
    if not _is_safetensors(head):
        return _named_tensors(_read_torch(source, head), source)
    try:
        return _named_tensors(load_file(source), source)
    except SafetensorError as error:
        raise _unreadable(source) from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the words in the header of a safetensors file; none in any other file.

    Raises:
        CheckpointError: A damaged safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    with source.open("rb") as file:
        head = file.read(9)
    if not _is_safetensors(head):
        return {}
    try:
        with safe_open(source, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except SafetensorError as error:
        raise _unreadable(source) from error


def load_strict(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, what: str, source: str
) -> None:
    """Fill `module` with `state` if every name and shape agrees; otherwise leave it as it was.

    Values are copied into the number format of the module, also where the module is on the meta
    device; the module never shares memory with `state` or with the file behind it.

    Args:
        module: Module to fill.
        state: Tensors by name.
        what: What the module is, for the message, e.g. 'sam_vit_b'.
        source: Where `state` comes from, for the message.

    Raises:
        CheckpointError: A name is missing or unexpected, a shape differs, or a weight is NaN or
            infinite.
    """
    import torch

    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if missing or unexpected or reshaped:
        wrong = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
        found = "; ".join(
            f"{len(names)} {label}: {_some(names)}" for label, names in wrong.items() if names
        )
        raise CheckpointError(
            f"expected the {len(wanted)} tensors of {what}, got {len(state)} in {source}; {found}",
            hint="this is the checkpoint of another model or variant; name the right one",
        )
    refuse_broken_numbers(state, source)
    on_meta = any(tensor.is_meta for tensor in wanted.values())
    if on_meta:
        fresh = {
            n: torch.empty_like(t, device="cpu" if t.is_meta else None) for n, t in wanted.items()
        }
        state = {name: tensor.copy_(state[name]) for name, tensor in fresh.items()}
    module.load_state_dict(state, strict=True, assign=on_meta)


def refuse_broken_numbers(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights that are NaN or infinite, with which every answer would be an empty mask.

    Raises:
        CheckpointError: Some are; the first tensors are named.
    """
    import torch

    # A sum that is finite says so of all it adds up, and takes no memory.
    suspects = (n for n, t in state.items() if t.is_floating_point() and not t.is_meta)
    unsure = [name for name in suspects if not torch.isfinite(state[name].sum())]
    wrong = [name for name in unsure if not torch.isfinite(state[name]).all()]
    if wrong:
        raise CheckpointError(
            f"expected finite weights, got NaN or infinite ones in {len(wrong)} of {len(state)} "
            f"tensors of {source}: {_some(wrong)}",
            hint="the training that wrote the file diverged; take an earlier checkpoint of it",
        )


def _refuse_stand_ins(source: Path, head: bytes) -> None:
    """Refuse files that stand where a checkpoint should be after a download went wrong."""
    if not head:
        raise CheckpointError(f"expected a checkpoint, got an empty file: {source}")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"expected a checkpoint, got a Git LFS pointer: {source}",
            hint="the repository was cloned without its large files; run git lfs pull there",
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"expected a checkpoint, got a web page: {source}",
            hint="the link led to a page about the file; fetch the file itself",
        )


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and head[:1] != b"{"


def _read_torch(source: Path, head: bytes) -> Any:
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint as unsafe_globals

    is_zip = head.startswith(b"PK")
    if is_zip and _is_torchscript(source):
        raise CheckpointError(
            f"expected plain tensors, got a TorchScript archive, which is code: {source}",
            hint="ask whoever made it for the state dict of the model",
        )
    # Before version 1.6 torch.save began a file with a pickle of a number.
    if not is_zip and _LEGACY_MAGIC not in [number for _, number in _instructions(source, 1)]:
        raise _unreadable(source, _named_globals(source, 1))
    # torch believes this suffix; given a stream, which it cannot map, it reads what is there.
    misnamed = source.suffix == ".safetensors"
    try:
        with source.open("rb") if misnamed else nullcontext(source) as file:
            mapped = is_zip and not misnamed
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        names: list[str] = []
        # If its pickle is damaged as well, what it would ask for cannot be told.
        with suppress(pickle.UnpicklingError, *_TORN):
            names = sorted(unsafe_globals(source) if is_zip else _named_globals(source, 4))
        raise _unreadable(source, names) from error
    except _TORN as error:
        raise _unreadable(source) from error


def _is_torchscript(source: Path) -> bool:
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(source) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _instructions(source: Path, pickles: int) -> Iterator[tuple[str, Any]]:
    """Yield the steps of the first pickles of a file, none of them run, as far as it is whole."""
    with (
        source.open("rb") as file,
        # Mapped, so that a claim of gigabytes to come reserves no memory for them.
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        suppress(ValueError, UnicodeError),
    ):
        for _ in range(pickles):
            for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", content)):
                yield opcode.name, argument


def _named_globals(source: Path, pickles: int) -> list[str]:
    """Return what the first pickles of a file name, without running them, save tensor parts."""
    names: set[str] = set()
    strings: list[str] = []
    for step, argument in _instructions(source, pickles):
        if step in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
        elif step == "STACK_GLOBAL":
            names.add(".".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return sorted(name for name in names if not _TENSOR_PART.fullmatch(name))


def _named_tensors(content: Any, source: Path) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(content, Mapping):
        wrapped = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
        content = next(wrapped, content)
    if not isinstance(content, Mapping) or not content:
        size = " without entries" if isinstance(content, Mapping) else ""
        raise CheckpointError(
            f"expected tensors by name in {source}, got a {type(content).__name__}{size}"
        )
    wrong = [
        str(name)
        for name, value in content.items()
        if not isinstance(value, torch.Tensor) or not isinstance(name, str)
    ]
    if wrong:
        raise CheckpointError(
            f"expected tensors by name in {source}, got other entries: {_some(wrong)}",
            hint=f"weights are looked for at the top and below {', '.join(_WRAPPERS)}",
        )
    state: dict[str, torch.Tensor] = dict(content)
    if all(name.startswith(_PARALLEL_PREFIX) for name in state):
        state = {name.removeprefix(_PARALLEL_PREFIX): value for name, value in state.items()}
    return state


def _unreadable(source: Path, names: Sequence[str] = ()) -> CheckpointError:
    """Return the error of a file that asks to run what is named, or else is damaged."""
    if names:
        return CheckpointError(
            "expected plain tensors, got a pickle that asks to run code in "
            f"{source}: {_some(names)}",
            hint="it is not run. If you trust whoever made the file, convert it once where it was "
            "made: torch.save(model.state_dict(), 'weights.pth')",
        )
    kind = "one that is cut off, damaged or of another kind"
    if zipfile.is_zipfile(source):
        kind = "a zip archive that torch cannot read"
    return CheckpointError(
        f"expected a whole torch or safetensors file, got {kind}: {source} of "
        f"{source.stat().st_size} bytes",
        hint="fetch it again, or check that it is a file of weights",
    )


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
