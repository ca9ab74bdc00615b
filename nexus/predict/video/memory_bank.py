"""What a video session remembers, and where: a little in RAM, the rest in a file of fixed size.

RAM keeps what a caller prompted and a window of the frames tracked last. A frame that leaves the
window goes to a file that is removed with the session; its memory tokens, four fifths of it, are
left out and encoded again from its mask when they are looked back at.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor

from nexus.models.memory import Remembered

_UNUSED = -1
_FLAGS = ("prompted", "reverse")
_SCORES = 2


@dataclass(frozen=True, eq=False)
class Seen:
    """One object on one frame.

    Attributes:
        pointer: (C,) object pointer.
        iou_score: Predicted IoU of the mask.
        object_score_logit: Above 0 where the object is in the frame.
        prompted: A caller pointed at the object on this frame.
        reverse: It was found while going back in time.
        low_res_logits: (h, w) float32, as decoded; None where only the pointer is at hand.
        memory: (T, M) memory tokens; None where they have to be encoded again.
    """

    pointer: Tensor
    iou_score: float
    object_score_logit: float
    prompted: bool
    reverse: bool
    low_res_logits: Tensor | None
    memory: Tensor | None

    def to(self, device: torch.device) -> Seen:
        """Return it on another device."""
        return dataclasses.replace(
            self,
            pointer=self.pointer.to(device),
            low_res_logits=None if self.low_res_logits is None else self.low_res_logits.to(device),
            memory=None if self.memory is None else self.memory.to(device),
        )

    def alone(self) -> Seen:
        """Return a copy that does not keep the objects it was decoded with in memory."""
        return dataclasses.replace(
            self,
            pointer=self.pointer.clone(),
            low_res_logits=None if self.low_res_logits is None else self.low_res_logits.clone(),
            memory=None if self.memory is None else self.memory.clone(),
        )


class HistoryFile:
    """Masks, pointers and scores of one object by frame, in a temporary file of bounded size.

    Past `most` frames a new one takes the place of an older one. The file has no name where the
    system allows that, and goes with the process in any case.

    Args:
        folder: Where the file lies; None takes the system's folder for temporary files.
        most: Frames it may hold.
        mask_hw: Size of the mask logits.
        pointer_size: Channels of a pointer.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        most: int,
        mask_hw: tuple[int, int],
        pointer_size: int,
    ) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115
        self._finalizer = weakref.finalize(self, self._file.close)
        self._most = max(1, most)
        self._mask_hw = mask_hw
        self._head = len(_FLAGS) + _SCORES + pointer_size
        self._length = self._head + mask_hw[0] * mask_hw[1]
        self._owners = array("q")  # the frame in each place of the file

    def write(self, index: int, seen: Seen) -> None:
        """Keep a frame; without its mask it is not worth keeping.

        Raises:
            OSError: The disk is full.
        """
        if seen.low_res_logits is None:
            return
        flags = [float(seen.prompted), float(seen.reverse)]
        scores = [seen.iou_score, seen.object_score_logit]
        parts = [
            np.array(flags + scores, np.float32),
            seen.pointer.float().cpu().numpy(),
            seen.low_res_logits.float().cpu().numpy().ravel(),
        ]
        place = index % self._most
        if place >= len(self._owners):
            self._owners.extend([_UNUSED] * (place + 1 - len(self._owners)))
        self._owners[place] = _UNUSED  # a write that fails leaves no frame there
        self._file.seek(place * self._length * 4)
        data = memoryview(np.concatenate(parts).tobytes())
        while data:  # an unbuffered file may take only a part
            data = data[self._file.write(data) :]
        self._owners[place] = index

    def read(self, index: int, with_mask: bool = True) -> Seen | None:
        """Return a frame, or None if it was never kept or has lost its place."""
        if index not in self:
            return None
        self._file.seek((index % self._most) * self._length * 4)
        count = self._length if with_mask else self._head
        values = np.frombuffer(self._file.read(count * 4), np.float32).copy()
        first = len(_FLAGS) + _SCORES
        mask = torch.from_numpy(values[self._head :]).view(self._mask_hw) if with_mask else None
        return Seen(
            torch.from_numpy(values[first : self._head]),
            float(values[2]),
            float(values[3]),
            bool(values[0]),
            bool(values[1]),
            mask,
            None,
        )

    def __contains__(self, index: int) -> bool:
        place = index % self._most
        return place < len(self._owners) and self._owners[place] == index

    def lost(self, index: int) -> bool:
        """Tell whether a frame's place was taken by another one."""
        place = index % self._most
        return place < len(self._owners) and self._owners[place] not in (_UNUSED, index)

    def frames(self) -> Iterator[int]:
        """Give the numbers of the frames it holds."""
        return (index for index in self._owners if index != _UNUSED)

    def close(self) -> None:
        """Remove the file."""
        self._finalizer()


@dataclass(frozen=True)
class BankSettings:
    """How much a bank keeps and where.

    Attributes:
        memories: Frames whose memory stays in RAM.
        pointers: Frames whose pointer stays in RAM, at least as many.
        device: Where what is in RAM lies.
        dtype: Number format of pointers and memories.
        history_bytes: Most bytes of the file of each object; 0 for a source that cannot go back,
            where older frames are never asked for.
        folder: Where the files lie.
    """

    memories: int
    pointers: int
    device: torch.device
    dtype: torch.dtype
    history_bytes: int
    folder: str | os.PathLike[str] | None = None


class ObjectTrack:
    """One object on all its frames.

    Attributes:
        conditioning: Frames it was prompted on before it was tracked over them.
        corrected: Frames it was prompted on afterwards; they are not tracked over again.
        held: Frames on which another object was corrected; they are not tracked over again
            either, until this object is prompted anew.
    """

    def __init__(self, settings: BankSettings) -> None:
        self.settings = settings
        self.conditioning: dict[int, Seen] = {}
        self.corrected: dict[int, Seen] = {}
        self.held: dict[int, Seen] = {}
        self._live: OrderedDict[int, Seen] = OrderedDict()
        self._history: HistoryFile | None = None

    def is_settled(self, index: int) -> bool:
        """Tell whether tracking passes over a frame without touching it."""
        return index in self.conditioning or index in self.corrected or index in self.held

    def get(self, index: int, with_mask: bool = True) -> Seen | None:
        """Return what is known of a frame; without `with_mask` the mask may be missing."""
        for kind in (self.conditioning, self.corrected, self.held):
            if index in kind:
                return kind[index]
        seen = self._live.get(index)
        if seen is not None and (seen.low_res_logits is not None or not with_mask):
            return seen
        read = None if self._history is None else self._history.read(index, with_mask)
        if read is None:
            return seen
        read = read.to(self.settings.device)
        return dataclasses.replace(read, pointer=read.pointer.to(self.settings.dtype))

    def put(self, index: int, seen: Seen) -> None:
        """Remember a tracked frame; it becomes the newest of the window."""
        self._live.pop(index, None)
        self._live[index] = seen.to(self.settings.device)
        self._shrink()

    def touch(self, index: int) -> None:
        """Make a frame the newest of the window, if it is there."""
        if index in self._live:
            self._live.move_to_end(index)

    def settle(self, kind: dict[int, Seen], index: int, seen: Seen) -> None:
        """Keep a frame for good, as one of `conditioning`, `corrected` or `held`."""
        for other in (self.conditioning, self.corrected, self.held):
            other.pop(index, None)
        self._live.pop(index, None)
        kind[index] = seen.to(self.settings.device).alone()

    def release_held(self) -> None:
        """Let frames be tracked over again that were kept for another object's sake."""
        for index, seen in self.held.items():
            self.put(index, seen)
        self.held.clear()

    def refresh(self, index: int, memory: Tensor) -> None:
        """Give a frame the memory it lacked."""
        memory = memory.to(self.settings.device)
        for kind in (self.conditioning, self.corrected, self.held):
            if index in kind:
                kind[index] = dataclasses.replace(kind[index], memory=memory)
                return
        seen = self.get(index)
        if seen is not None:
            self.put(index, dataclasses.replace(seen, memory=memory))

    def others(self, indices: Iterator[int]) -> dict[int, Remembered]:
        """Return those of some frames that are no conditioning frames."""
        found = {}
        for index in indices:
            seen = None if index in self.conditioning else self.get(index, with_mask=False)
            if seen is not None:
                found[index] = remembered(seen)
        return found

    def lost(self, index: int) -> bool:
        """Tell whether a frame was forgotten because the file is full."""
        if index < 0 or self._history is None or self.get(index, with_mask=False) is not None:
            return False
        return self._history.lost(index)

    def frames_of(self, kind: str) -> list[int]:
        """Return the frames of a kind: 'conditioning', 'corrected', 'held' or 'tracked'.

        They are in the order they were prompted in; tracked ones in that of time. Tracked frames
        whose mask is lost are left out.
        """
        if kind != "tracked":
            return list(self._settled(kind))
        history = () if self._history is None else self._history.frames()
        live = (t for t, seen in self._live.items() if seen.low_res_logits is not None)
        return sorted({t for t in (*live, *history) if not self.is_settled(t)})

    def restore(self, kind: str, index: int, seen: Seen) -> None:
        """Take over a frame of a kind, as `frames_of` gives them."""
        if kind == "tracked":
            self.put(index, seen)
        else:
            self.settle(self._settled(kind), index, seen)

    def _settled(self, kind: str) -> dict[int, Seen]:
        kinds = {
            "conditioning": self.conditioning,
            "corrected": self.corrected,
            "held": self.held,
        }
        return kinds[kind]

    def forget(self) -> None:
        """Remove the file."""
        if self._history is not None:
            self._history.close()

    def _shrink(self) -> None:
        """Move to the file what leaves the window."""
        heavy_end = len(self._live) - self.settings.memories
        for index in list(self._live)[:heavy_end] if heavy_end > 0 else ():
            seen = self._live[index]
            if seen.low_res_logits is not None:
                if self.settings.history_bytes:
                    self._file(seen).write(index, seen)
                light = dataclasses.replace(seen, low_res_logits=None, memory=None)
                self._live[index] = dataclasses.replace(light, pointer=seen.pointer.clone())
        while len(self._live) > self.settings.pointers:
            self._live.popitem(last=False)

    def _file(self, seen: Seen) -> HistoryFile:
        if self._history is None:
            if seen.low_res_logits is None:
                raise TypeError("only a frame with a mask goes to the file")
            height, width = seen.low_res_logits.shape
            record = 4 * (len(_FLAGS) + _SCORES + len(seen.pointer) + height * width)
            self._history = HistoryFile(
                self.settings.folder,
                self.settings.history_bytes // record,
                (height, width),
                len(seen.pointer),
            )
        return self._history


def remembered(seen: Seen) -> Remembered:
    """Return what other frames look back at; a memory that is missing is empty."""
    memory = seen.pointer.new_zeros(0, 0) if seen.memory is None else seen.memory
    return Remembered(memory, seen.pointer)
