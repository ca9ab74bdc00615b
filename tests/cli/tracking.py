"""A model whose sessions move squares across a clip, for tests of `nexus track`.

It also runs as a program, `python tracking.py SECONDS TRACK_ARGUMENTS...`: the command `nexus`
with that model, each frame of which takes that long.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nexus.core.types.masks import FrameMasks
from nexus.core.types.prompt import Prompt
from nexus.data.video.source import VideoSource


class MovingSquares:
    """A session: each object is a square that starts at its prompt and moves a pixel a frame."""

    def __init__(self, source: VideoSource, seconds: float = 0) -> None:
        self.source, self.seconds = source, seconds
        self.corners: dict[int, tuple[int, int, int]] = {}
        self.added: list[dict[str, Any]] = []
        self.calls: list[tuple[int, int | None, bool]] = []

    def add(self, frame_index: int, object_id: int, **prompt: Any) -> FrameMasks:
        """Note a prompt."""
        checked = Prompt(**prompt)
        checked.check_within(self.source.size_hw)
        self.added.append({"frame_index": frame_index, "object_id": object_id, **prompt})
        if checked.mask is not None:
            y, x = (int(place.min()) for place in np.nonzero(checked.mask))
        else:
            x, y = map(int, checked.box[:2] if checked.box is not None else checked.points[0])
        self.corners.setdefault(object_id, (x - frame_index, y, frame_index))
        return self.shown(frame_index)

    def shown(self, index: int) -> FrameMasks:
        """Return the squares on a frame."""
        masks = np.zeros((len(self.corners), *self.source.size_hw), bool)
        for mask, (x, y, _) in zip(masks, self.corners.values(), strict=True):
            mask[y : y + 8, max(x + index, 0) : max(x + index + 8, 0)] = True
        scores = np.linspace(0.9, 0.5, len(masks), dtype=np.float32)
        low = np.zeros((len(masks), 4, 4), np.float32)
        time_s = self.source.time_s(index)
        return FrameMasks(index, time_s, tuple(self.corners), masks, scores, scores, low)

    def propagate(self, start: int, stop: int | None, reverse: bool) -> Iterator[FrameMasks]:
        """Yield the frames asked for, as long as the clip has them."""
        self.calls.append((start, stop, reverse))
        end = (-1 if reverse else self.source.frame_count) if stop is None else stop
        for index in range(start, end or 0, -1 if reverse else 1):
            self.source.frame(index)
            time.sleep(self.seconds)
            yield self.shown(index)

    def __enter__(self) -> MovingSquares:
        return self

    def __exit__(self, *error: object) -> None:
        self.source.close()

    def save(self, path: Path) -> None:
        """Write where the objects are."""
        Path(path).write_text(json.dumps(list(self.corners.items())))


class SquareModel:
    """What `load_model` gives."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.session: MovingSquares | None = None
        self.input_side: int | None = None
        self.loaded: list[Path] = []

    def video(self, source: VideoSource, input_side: int | None = None) -> MovingSquares:
        """Open a session."""
        self.session, self.input_side = MovingSquares(source, self.seconds), input_side
        return self.session

    def load_session(
        self, path: Path, source: VideoSource, input_side: int | None = None
    ) -> MovingSquares:
        """Open a saved session."""
        self.session = MovingSquares(source, self.seconds)
        self.loaded.append(path)
        saved = json.loads(Path(path).read_text())
        self.session.corners = {object_id: tuple(corner) for object_id, corner in saved}
        return self.session


if __name__ == "__main__":
    import nexus.models.cv
    from nexus.cli.main import main

    model = SquareModel(float(sys.argv.pop(1)))
    nexus.models.cv.load_model = lambda *arguments, **options: model
    main()
