"""Small clips and a session that forgets nothing, for tests of video sessions."""

from __future__ import annotations

import numpy as np

from nexus.models.cv.sam2 import SAM2
from nexus.predict.video.session import SessionSettings, VideoSession

CLICK = {"points": [[20, 20]], "labels": [1]}
BOX = {"box": [30, 5, 60, 40]}
CORRECTION = {"points": [[50, 30], [10, 10]], "labels": [1, 0]}


def clip(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return frames in which a square wanders over noise."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frames = []
    for t in range(count):
        frame = ground.copy()
        x, y = (3 * t) % 44, (2 * t) % 28
        frame[y : y + 20, x : x + 20] = (250, 20, 60)
        frame[:4] = random.integers(0, 256, (4, 64, 3))
        frames.append(frame)
    return frames


class Counted:
    """Counts calls of the parts of a model while it is in use."""

    def __init__(self, model: SAM2) -> None:
        self.calls: dict[str, int] = {}
        self._hooks = []
        for name in ("image_encoder.trunk", "memory_attention", "memory_encoder"):
            part = model.get_submodule(name)
            self._hooks.append(part.register_forward_pre_hook(self._counting(name)))
        self._decoder, self._decode = model.sam_mask_decoder, model.sam_mask_decoder.decode_objects
        self._decoder.decode_objects = self._counting_decode

    def _counting(self, name: str):
        def count(*_: object) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1

        return count

    def _counting_decode(self, *args: object, **kwargs: object):
        self.calls["decoder"] = self.calls.get("decoder", 0) + 1
        return self._decode(*args, **kwargs)

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        del self._decoder.decode_objects
        for hook in self._hooks:
            hook.remove()


def unpruned(model: SAM2, frames: list[np.ndarray]) -> VideoSession:
    """Return a session that keeps every memory in RAM for ever."""
    session = VideoSession(model, model.video(frames).source, SessionSettings(cached_frames=999))
    make = session.new_track

    def keeping() -> object:
        track = make()
        track.memories = track.pointers = 999
        return track

    session.new_track = keeping
    return session
