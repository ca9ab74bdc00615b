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
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor

from nexus.models.memory import Past, Remembered

Kind = Literal["conditioning", "corrected", "held", "tracked"]
"""What a frame is to an object, see `ObjectTrack`; a tracked one may be tracked over again."""


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

    def changed(self, change: Callable[[Tensor], Tensor]) -> Seen:
        """Return it with every tensor it has put through `change`."""
        mask, memory = self.low_res_logits, self.memory
        return dataclasses.replace(
            self,
            pointer=change(self.pointer),
            low_res_logits=None if mask is None else change(mask),
            memory=None if memory is None else change(memory),
        )

    @property
    def row(self) -> tuple[Tensor, float, float] | None:
        """What is shown of it, as a row of `ObjectOutputs`; None without a mask."""
        if self.low_res_logits is None:
            return None
        return self.low_res_logits, self.iou_score, self.object_score_logit

    @property
    def remembered(self) -> Remembered:
        """What other frames look back at; a memory that is missing is empty."""
        memory = self.pointer.new_zeros(0, 0) if self.memory is None else self.memory
        return Remembered(memory, self.pointer)


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
        # Prompted, reverse, IoU score, object score logit; and the pointer.
        head: list[Any] = [("flags", np.float32, 4), ("pointer", np.float32, (pointer_size,))]
        self._head = np.dtype(head)
        self._whole = np.dtype([*head, ("mask", np.float32, mask_hw)])
        self._owners: dict[int, int] = {}  # the frame in each place of the file

    def write(self, index: int, seen: Seen) -> None:
        """Keep a frame; without its mask it is not worth keeping.

        Raises:
            OSError: The disk is full.
        """
        if seen.low_res_logits is None:
            return
        flags = [seen.prompted, seen.reverse, seen.iou_score, seen.object_score_logit]
        parts = [part.float().cpu().numpy() for part in (seen.pointer, seen.low_res_logits)]
        place = index % self._most
        self._owners.pop(place, None)  # a write that fails leaves no frame there
        self._file.seek(place * self._whole.itemsize)
        data = memoryview(np.array((flags, *parts), self._whole).tobytes())
        while data:  # an unbuffered file may take only a part
            data = data[self._file.write(data) :]
        self._owners[place] = index

    def read(self, index: int, with_mask: bool = True) -> Seen | None:
        """Return a frame, or None if it was never kept or has lost its place."""
        if index not in self:
            return None
        self._file.seek((index % self._most) * self._whole.itemsize)
        kind = self._whole if with_mask else self._head
        record = np.frombuffer(bytearray(self._file.read(kind.itemsize)), kind)[0]
        prompted, reverse, iou_score, object_score_logit = record["flags"].tolist()
        return Seen(
            torch.from_numpy(record["pointer"]),
            iou_score,
            object_score_logit,
            bool(prompted),
            bool(reverse),
            torch.from_numpy(record["mask"]) if with_mask else None,
            None,
        )

    def __contains__(self, index: int) -> bool:
        return self._owners.get(index % self._most) == index

    def lost(self, index: int) -> bool:
        """Tell whether a frame's place was taken by another one."""
        return self._owners.get(index % self._most, index) != index

    def frames(self) -> Iterable[int]:
        """Return the numbers of the frames it holds."""
        return self._owners.values()

    def close(self) -> None:
        """Remove the file."""
        self._finalizer()


@dataclass(eq=False)
class ObjectTrack:
    """One object on all its frames.

    Attributes:
        memories: Frames whose memory stays in RAM.
        pointers: Frames whose pointer stays in RAM, at least as many.
        device: Where what is in RAM lies.
        dtype: Number format of pointers and memories.
        history_bytes: Most bytes of the file; 0 for a source that cannot go back, where older
            frames are never asked for.
        folder: Where the file lies.
        conditioning: Frames it was prompted on before it was tracked over them.
        corrected: Frames it was prompted on afterwards; they are not tracked over again.
        held: Frames on which another object was corrected; they are not tracked over again
            either, until this object is prompted anew.
    """

    memories: int
    pointers: int
    device: torch.device
    dtype: torch.dtype
    history_bytes: int
    folder: str | os.PathLike[str] | None = None
    conditioning: dict[int, Seen] = field(default_factory=dict, init=False)
    corrected: dict[int, Seen] = field(default_factory=dict, init=False)
    held: dict[int, Seen] = field(default_factory=dict, init=False)
    _live: OrderedDict[int, Seen] = field(default_factory=OrderedDict, init=False)
    _history: HistoryFile | None = field(default=None, init=False)

    @property
    def _settled(self) -> dict[Kind, dict[int, Seen]]:
        return {"conditioning": self.conditioning, "corrected": self.corrected, "held": self.held}

    def _home(self, index: int) -> dict[int, Seen]:
        """Return the settled frames that a frame is among, or else the window."""
        return next((frames for frames in self._settled.values() if index in frames), self._live)

    def is_settled(self, index: int) -> bool:
        """Tell whether tracking passes over a frame without touching it."""
        return self._home(index) is not self._live

    def get(self, index: int, with_mask: bool = True) -> Seen | None:
        """Return what is known of a frame; without `with_mask` the mask may be missing."""
        seen = self._home(index).get(index)
        if seen is not None and (seen.low_res_logits is not None or not with_mask):
            return seen
        read = None if self._history is None else self._history.read(index, with_mask)
        if read is None:
            return seen
        read = read.changed(lambda part: part.to(self.device))
        return dataclasses.replace(read, pointer=read.pointer.to(self.dtype))

    def put(self, index: int, seen: Seen, kind: Kind = "tracked") -> None:
        """Remember a frame: a tracked one as the newest of the window, others for good."""
        for frames in (self._live, *self._settled.values()):
            frames.pop(index, None)
        seen = seen.changed(lambda part: part.to(self.device))
        if kind == "tracked":
            self._live[index] = seen
            self._shrink()
        else:
            # Copied, or the objects it was decoded with would stay in memory as long as it does.
            self._settled[kind][index] = seen.changed(torch.clone)

    def touch(self, index: int) -> None:
        """Make a frame the newest of the window, if it is there."""
        if index in self._live:
            self._live.move_to_end(index)

    def release_held(self) -> None:
        """Let frames be tracked over again that were kept for another object's sake."""
        for index, seen in list(self.held.items()):
            self.put(index, seen)

    def refresh(self, index: int, memory: Tensor) -> None:
        """Give a frame the memory it lacked."""
        seen = self.get(index)
        if seen is None:
            return
        seen, home = dataclasses.replace(seen, memory=memory.to(self.device)), self._home(index)
        if home is self._live:
            self.put(index, seen)
        else:
            home[index] = seen  # in its place: they are looked back at in order

    def past(self, indices: Iterable[int]) -> Past:
        """Return all conditioning frames, and those of some others that are known."""
        found = {t: self.get(t, with_mask=False) for t in indices if t not in self.conditioning}
        return Past(
            {t: seen.remembered for t, seen in self.conditioning.items()},
            {t: seen.remembered for t, seen in found.items() if seen is not None},
        )

    def lost(self, index: int) -> bool:
        """Tell whether a frame was forgotten because the file is full."""
        if index < 0 or self._history is None or self.get(index, with_mask=False) is not None:
            return False
        return self._history.lost(index)

    def frames_of(self, kind: Kind) -> list[int]:
        """Return the frames of a kind.

        They are in the order they were prompted in; tracked ones in that of time. Tracked frames
        whose mask is lost are left out.
        """
        if kind != "tracked":
            return list(self._settled[kind])
        history = () if self._history is None else self._history.frames()
        live = (t for t, seen in self._live.items() if seen.low_res_logits is not None)
        return sorted({t for t in (*live, *history) if not self.is_settled(t)})

    def forget(self) -> None:
        """Remove the file."""
        if self._history is not None:
            self._history.close()

    def _shrink(self) -> None:
        """Move to the file what leaves the window.

        A frame goes down in three steps: whole while its memory tokens are looked back at; then
        its pointer alone, which is looked back at for longer; then nothing, for it is on file.
        The window is in the order frames were put or touched, not in that of time: going back
        over a video, or encoding an old memory again, makes old frames the newest.
        """
        heavy_end = max(0, len(self._live) - self.memories)
        for index in list(self._live)[:heavy_end]:
            seen = self._live[index]
            if seen.low_res_logits is None:  # it went down before
                continue
            if self.history_bytes:
                if self._history is None:
                    shapes = (*seen.low_res_logits.shape,), len(seen.pointer)
                    record = 4 * (4 + seen.pointer.numel() + seen.low_res_logits.numel())
                    self._history = HistoryFile(self.folder, self.history_bytes // record, *shapes)
                self._history.write(index, seen)
            # A pointer is a row of all objects' pointers; a view would keep them all.
            pointer = seen.pointer.clone()
            light = dataclasses.replace(seen, pointer=pointer, low_res_logits=None, memory=None)
            self._live[index] = light
        while len(self._live) > self.pointers:
            self._live.popitem(last=False)
