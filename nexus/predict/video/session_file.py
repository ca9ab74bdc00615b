"""Video sessions on disk: one safetensors file, masks and pointers as tensors, the rest as JSON.

The file is written and read a frame at a time, so that a session of any length is saved in the
memory it runs in. Memory tokens are not in it: they are encoded again from the masks when they are
looked back at, for which the source is at hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from nexus.core.errors import CheckpointError, InputError
from nexus.core.files import replacing
from nexus.predict.video.memory_bank import ObjectTrack, Seen
from nexus.predict.video.session import VideoSession

FORMAT = "nexus.video_session.1"

_KINDS = ("conditioning", "corrected", "held", "tracked")
_COLUMNS = 5  # frame, prompted, reverse, IoU score, object score logit


def save_session(session: VideoSession, path: str | os.PathLike[str]) -> None:
    """Write a session; see `VideoSession.save`."""
    header = {"format": FORMAT, **_identity(session), "objects": []}
    plan: list[tuple[str, ObjectTrack, list[int]]] = []
    for number, (object_id, track) in enumerate(session.tracks().items()):
        header["objects"].append(object_id)
        plan += [(f"{number}.{kind}", track, track.frames_of(kind)) for kind in _KINDS]
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write(file, {"nexus": json.dumps(header)}, [entry for entry in plan if entry[2]])


def load_session(session: VideoSession, path: str | os.PathLike[str]) -> VideoSession:
    """Fill a fresh session with what a file holds; see `SAM2.load_session`."""
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"no video session at {str(source)!r}")
    try:
        with safe_open(source, framework="np") as file:
            header = json.loads((file.metadata() or {}).get("nexus", "{}"))
            if header.get("format") != FORMAT:
                raise InputError(
                    f"expected a video session saved by Nexus, got {str(source)!r}, which is "
                    "another safetensors file"
                )
            _check_identity(session, header)
            tracks = {
                object_id: _track(session, file, str(number))
                for number, object_id in enumerate(header["objects"])
            }
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise CheckpointError(
            f"expected a whole video session, got {str(source)!r}: {error}",
            hint="save the session again",
        ) from error
    session.restore(tracks)
    return session


def _identity(session: VideoSession) -> dict[str, Any]:
    """Return what a model and a source are known by.

    Raises:
        InputError: The source cannot be read again.
    """
    source, model = session.source, session.model
    fingerprint = source.fingerprint()
    if fingerprint is None:
        raise InputError(
            f"expected a source that can be read again, got {source.name}",
            hint="a session on a camera cannot be saved; write its frames to a file first",
        )
    return {
        "model": model.variant,
        "weights": model.frontend.fingerprint(model),
        "input_side": session.settings.input_side or model.policy.input_side,
        "source": fingerprint,
        "size_hw": list(source.size_hw),
        "frame_count": source.frame_count,
    }


def _check_identity(session: VideoSession, header: Mapping[str, Any]) -> None:
    """Refuse another model or source than the one that was saved.

    Raises:
        InputError: It is another one.
    """
    mine = _identity(session)
    if (mine["model"], mine["weights"]) != (header["model"], header["weights"]):
        same = mine["model"] == header["model"]
        got = "other weights of it" if same else mine["model"]
        raise InputError(
            f"expected the model of the saved session, {header['model']}, got {got}",
            hint="load the session with the model and policy it was saved with",
        )
    if mine["input_side"] != header["input_side"]:
        raise InputError(
            f"expected input_side={header['input_side']} as in the saved session, "
            f"got {mine['input_side']}"
        )
    for key in ("source", "size_hw", "frame_count"):
        if mine[key] != header[key]:
            height, width = header["size_hw"]
            raise InputError(
                f"expected the source of the saved session ({header['frame_count']} frames of "
                f"{width} x {height} pixels), got another one: {session.source!r}",
                hint="a file that was written anew counts as another source",
            )


def _write(
    file: BinaryIO, metadata: dict[str, str], plan: Iterable[tuple[str, ObjectTrack, list[int]]]
) -> None:
    """Write a safetensors file: the length of its header, the header, the tensors in order."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    order, offset = [], 0
    for name, track, frames in plan:
        first = _whole(track, frames[0])
        parts = {
            "frames": (len(frames), _COLUMNS),
            "pointers": (len(frames), *first[1].shape),
            "low_res_logits": (len(frames), *first[2].shape),
        }
        for part, (key, shape) in enumerate(parts.items()):
            dtype, width = ("F64", 8) if part == 0 else ("F32", 4)
            end = offset + int(np.prod(shape)) * width
            entries[f"{name}.{key}"] = {
                "dtype": dtype,
                "shape": list(shape),
                "data_offsets": [offset, end],
            }
            order.append((track, frames, part))
            offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for track, frames, part in order:
        for index in frames:
            file.write(_whole(track, index)[part].tobytes())


def _whole(track: ObjectTrack, index: int) -> tuple[Any, Any, Any]:
    """Return a frame as three arrays: columns, pointer, mask logits."""
    seen = track.get(index)
    if seen is None or seen.low_res_logits is None:
        raise InputError(f"expected frame {index} to be remembered, got nothing")
    columns = [index, seen.prompted, seen.reverse, seen.iou_score, seen.object_score_logit]
    return (
        np.array(columns, np.float64),
        seen.pointer.float().cpu().numpy(),
        seen.low_res_logits.float().cpu().numpy(),
    )


def _track(session: VideoSession, file: Any, number: str) -> ObjectTrack:
    """Read one object."""
    track = session.new_track()
    names = set(file.keys())
    for kind in _KINDS:
        if f"{number}.{kind}.frames" not in names:
            continue
        columns = file.get_tensor(f"{number}.{kind}.frames")
        pointers = file.get_slice(f"{number}.{kind}.pointers")
        masks = file.get_slice(f"{number}.{kind}.low_res_logits")
        for row, (index, prompted, reverse, iou, score) in enumerate(columns.tolist()):
            pointer = torch.from_numpy(np.array(pointers[row : row + 1])[0])
            mask = torch.from_numpy(np.array(masks[row : row + 1])[0])
            dtype = track.settings.dtype
            seen = Seen(pointer.to(dtype), iou, score, bool(prompted), bool(reverse), mask, None)
            track.restore(kind, int(index), seen)
    return track
