"""Encode again the memories of frames that have left RAM but are looked back at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nexus.models.cv.sam2 import SAM2
from nexus.models.memory import FrameFeatures
from nexus.predict.video.memory_bank import ObjectTrack, Seen
from nexus.predict.video.step import encode_memories

_Lacking = tuple[ObjectTrack, Seen, Tensor]


def revive(
    model: SAM2,
    t: int,
    tracks: Sequence[ObjectTrack],
    sign: int,
    features: Callable[[int], FrameFeatures],
) -> None:
    """Make sure that all memories a frame looks back at are there.

    All objects that lack the memory of a frame get it in one call.

    Args:
        model: The model.
        t: The frame that looks back.
        tracks: The objects that are tracked into it.
        sign: 1 going forward in time, -1 going back.
        features: Gives an encoded frame.

    Raises:
        VideoError: A frame that is needed cannot be read.
    """
    near = [t - sign * age for age in range(model.config.max_memories - 1, 0, -1)]
    prompted = {u for track in tracks for u in track.conditioning}
    for u in [*sorted(prompted - set(near)), *near]:
        lacking: list[_Lacking] = []
        for track in tracks:
            if u not in near and u not in track.conditioning:
                continue
            seen = track.get(u, with_mask=False)
            if seen is None or seen.memory is not None:
                track.touch(u)  # lest what is encoded for other frames pushes it out
                continue
            whole = track.get(u)
            if whole is not None and whole.low_res_logits is not None:
                lacking.append((track, whole, whole.low_res_logits))
        if lacking:
            _encode_again(model, u, lacking, features(u))


def _encode_again(model: SAM2, u: int, lacking: Sequence[_Lacking], frame: FrameFeatures) -> None:
    memory = encode_memories(
        model,
        frame,
        torch.stack([logits for _, _, logits in lacking]),
        torch.tensor([[seen.object_score_logit] for _, seen, _ in lacking]),
        [seen.prompted for _, seen, _ in lacking],
    )
    for (track, _, _), row in zip(lacking, memory, strict=True):
        track.refresh(u, row)
