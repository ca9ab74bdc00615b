"""Video sessions on disk: one safetensors file, masks and pointers as tensors, the rest as JSON.

The file is written and read a frame at a time, so that a session of any length is saved in the
memory it runs in. Memory tokens are not in it: they are encoded again from the masks when they are
looked back at, for which the source is at hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
import torch

from nexus.core.errors import CheckpointError, InputError, WeightsNotFoundError
from nexus.core.files import replacing
from nexus.core.words import counted
from nexus.data.video.source import VideoSource
from nexus.models.promptable import PromptableModel
from nexus.predict.video.memory_bank import Kind, ObjectTrack, Seen

FORMAT = "nexus.video_session.1"

_KINDS: tuple[Kind, ...] = get_args(Kind)


def identity_of(
    model: PromptableModel, source: VideoSource, input_side: int | None
) -> dict[str, Any]:
    """Return what the model and the source of a session are known by; see `VideoSession.save`."""
    fingerprint = source.fingerprint()
    if fingerprint is None:
        raise InputError(
            f"expected a source that can be read again, got {source.name}",
            hint="a session on a camera cannot be saved; write its frames to a file first",
        )
    return {
        "model": model.variant,
        "weights": model.frontend.fingerprint(model),
        "input_side": input_side or model.policy.input_side,
        "name": source.name,
        "source": fingerprint,
        "size_hw": list(source.size_hw),
        "frame_count": source.frame_count,
    }


def save_tracks(
    path: str | os.PathLike[str], identity: Mapping[str, Any], tracks: Mapping[int, ObjectTrack]
) -> None:
    """Write what is remembered of objects, by id; see `VideoSession.save`."""
    header = {"format": FORMAT, **identity, "objects": list(tracks)}
    plan = [
        (f"{number}.{kind}", track, frames)
        for number, track in enumerate(tracks.values())
        for kind in _KINDS
        if (frames := track.frames_of(kind))
    ]
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write(file, {"nexus": json.dumps(header)}, plan)


def load_tracks(
    path: str | os.PathLike[str], identity: Mapping[str, Any], new_track: Callable[[], ObjectTrack]
) -> dict[int, ObjectTrack]:
    """Read what is remembered of objects, by id; see `VideoSession.load`."""
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if not source.is_file():
        got = "a folder" if source.is_dir() else "no such file"
        raise WeightsNotFoundError(f"expected a video session at {str(source)!r}, got {got}")
    try:
        with safe_open(source, framework="np") as file:
            header = json.loads((file.metadata() or {}).get("nexus", "{}"))
            if header.get("format") != FORMAT:
                raise InputError(
                    f"expected a video session saved by Nexus, got {str(source)!r}, which is "
                    "another safetensors file"
                )
            _check_identity(identity, header)
            return {
                object_id: _filled(new_track(), file, str(number))
                for number, object_id in enumerate(header["objects"])
            }
    except (SafetensorError, json.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"expected a whole video session, got {str(source)!r}: {error}",
            hint="save the session again",
        ) from error


def _check_identity(mine: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Refuse another model or source than the one that was saved."""
    if (mine["model"], mine["weights"]) != (header["model"], header["weights"]):
        same = mine["model"] == header["model"]
        got = "other weights of it" if same else mine["model"]
        raise InputError(
            f"expected the model of the saved session, {header['model']}, got {got}",
            hint="load the session with the model and policy it was saved with",
        )
    saved_side, side = header["input_side"], mine["input_side"]
    if side != saved_side:
        raise InputError(f"expected input_side={saved_side} as in the saved session, got {side}")
    if any(mine[key] != header[key] for key in ("source", "size_hw", "frame_count")):
        height, width = header["size_hw"]
        frames = counted(header["frame_count"], "frame")
        raise InputError(
            f"expected the source of the saved session ({frames} of "
            f"{width} x {height} pixels), got another one: {mine['name']}",
            hint="a file that was written anew counts as another source",
        )


def _write(
    file: BinaryIO, metadata: dict[str, str], plan: Sequence[tuple[str, ObjectTrack, list[int]]]
) -> None:
    """Write a safetensors file: the length of its header, the header, the tensors in order."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    order, offset = [], 0
    for name, track, frames in plan:
        first = zip(("frames", "pointers", "low_res_logits"), _whole(track, frames[0]), strict=True)
        for part, (key, array) in enumerate(first):
            end = offset + len(frames) * array.nbytes
            entries[f"{name}.{key}"] = {
                "dtype": {8: "F64", 4: "F32"}[array.itemsize],
                "shape": [len(frames), *array.shape],
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
    """Return a frame as three arrays: number, flags and scores; pointer; mask logits."""
    seen = track.get(index)
    if seen is None or seen.low_res_logits is None:
        raise InputError(f"expected frame {index} to be remembered, got nothing")
    columns = [index, seen.prompted, seen.reverse, seen.iou_score, seen.object_score_logit]
    return (
        np.array(columns, np.float64),
        seen.pointer.float().cpu().numpy(),
        seen.low_res_logits.float().cpu().numpy(),
    )


def _filled(track: ObjectTrack, file: Any, number: str) -> ObjectTrack:
    """Read one object into its empty track."""
    names = set(file.keys())
    for kind in _KINDS:
        if f"{number}.{kind}.frames" not in names:
            continue
        columns = file.get_tensor(f"{number}.{kind}.frames").tolist()
        parts = [file.get_slice(f"{number}.{kind}.{key}") for key in ("pointers", "low_res_logits")]
        for row, (index, prompted, reverse, iou, score) in enumerate(columns):
            pointer, mask = (torch.from_numpy(np.array(part[row : row + 1])[0]) for part in parts)
            pointer = pointer.to(track.dtype)
            seen = Seen(pointer, iou, score, bool(prompted), bool(reverse), mask, None)
            track.put(int(index), seen, kind)
    return track
