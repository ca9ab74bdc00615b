"""Memory of long sessions: `make proof-memory`, or python -m benchmarks.soak [FRAMES].

A synthetic clip of 5,000 frames goes through a tiny SAM 2, whose weights mean nothing, but whose
session does all that a large one's does. Resident memory is sampled every 25 frames; its slope
after warm-up, by least squares, must stay below 1 KB per frame. A run that is over the limit ends
with exit code 1.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from benchmarks.timing import machine
from nexus.data.video.opening import FrameList
from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.models.policy import Policy
from nexus.nn.hiera import HieraConfig

REPORT = Path(__file__).parents[1] / "docs" / "video-memory.md"
PLOT = REPORT.with_suffix(".png")
LIMIT_BYTES = 1024.0
EVERY = 25

_POLICY = Policy(input_side=64, resize="square", upscale="direct", padding_point="always")
_CONFIG = SAM2Config(
    HieraConfig(
        width=8, depths=(1, 1, 2, 1), global_blocks=(3,), position_side=3, windows=(4, 2, 6, 3)
    ),
    dim=16,
    memory_dim=8,
    memory_layers=1,
    hidden=32,
)


@dataclass(frozen=True)
class Run:
    """One session.

    Attributes:
        name: What was tracked.
        frames: (n,) frame numbers of the samples.
        resident: (n,) bytes.
        warm_up: Frames that do not count for the slope.
        seconds: How long it took.
    """

    name: str
    frames: NDArray[np.int64]
    resident: NDArray[np.int64]
    warm_up: int
    seconds: float

    @property
    def slope(self) -> float:
        """Bytes per frame, by least squares over the samples after warm-up."""
        late = self.frames >= self.warm_up
        return float(np.polyfit(self.frames[late], self.resident[late], 1)[0])


def tiny_model() -> SAM2:
    """Return a model that is cheap enough for thousands of frames."""
    torch.manual_seed(0)
    model = SAM2(_CONFIG, "tiny", _POLICY).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    head: Any = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    head.bias.fill_(5)  # or masks are blank, and cost nothing to remember
    return model


class Clip:
    """A clip whose frames are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.ground = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.ground.copy()
        x, y = (3 * index) % 44, (2 * index) % 28
        picture[y : y + 20, x : x + 20] = (250, 20, 60)
        return picture


def soak(name: str, count: int, objects: int, late: int = 0) -> Run:
    """Track `objects` from frame 0 and `late` more that join on the way, then measure memory."""
    process = psutil.Process()
    start = time.perf_counter()
    with tiny_model().video(FrameList(Clip(count), 25, None, "a synthetic clip")) as session:
        for k in range(objects):
            session.add(0, k, points=[[3 + 7 * k, 20]])
        joins = {count * (k + 1) // (4 * (late + 1)): objects + k for k in range(late)}
        samples = []
        for frame in session.propagate():
            if frame.index in joins:
                session.add(frame.index, joins[frame.index], box=[10, 10, 40, 40])
            if frame.index % EVERY == 0:
                _settle()
                samples.append((frame.index, process.memory_info().rss))
    frames, resident = np.array(samples, np.int64).T
    warm_up = count // 5 if not late else count * 3 // 10
    return Run(name, frames, resident, warm_up, time.perf_counter() - start)


def _settle() -> None:
    """Give back to the system what is free, or the allocator's habits are measured."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def runs(count: int) -> Iterator[Run]:
    """Run the three sessions of the report."""
    yield soak("1 object", count, 1)
    yield soak("8 objects", count, 8)
    yield soak("2 objects, 4 late ones", count, 2, 4)


def write_report(results: list[Run]) -> None:
    """Write the plot and its numbers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), dpi=100)
    for run in results:
        axes.plot(run.frames, (run.resident - run.resident[0]) / 2**20, label=run.name)
    axes.set(xlabel="frame", ylabel="resident memory since frame 0, MiB", ylim=(-20, 60))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(PLOT)
    rows = "\n".join(
        f"| {run.name} | {run.frames[-1] + EVERY} | {run.slope:+.0f} | {run.seconds:.0f} |"
        for run in results
    )
    REPORT.write_text(_TEXT.format(rows=rows, machine=machine(), plot=PLOT.name), "utf-8")


_TEXT = """# Memory of video sessions

A session keeps a window of frames and what was prompted in memory, the rest in a file of bounded
size; results are yielded and not stored. `make proof-memory` tracks objects of a tiny model through
a synthetic clip and fits a line to the resident memory after warm-up. The limit is 1,024 bytes per
frame.

| tracked | frames | bytes per frame | seconds |
|---|---|---|---|
{rows}

![Resident memory by frame]({plot})

Measured on {machine}.
"""


def main() -> int:
    """Run everything, write the report, and say whether memory stays constant."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    results = []
    for run in runs(count):
        print(f"{run.name}: {run.slope:+.0f} bytes per frame, {run.seconds:.0f} s")
        results.append(run)
    write_report(results)
    return int(any(run.slope >= LIMIT_BYTES for run in results))


if __name__ == "__main__":
    sys.exit(main())
