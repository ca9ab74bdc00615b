"""A run in a process of its own: -m tests.train.tiny_worker KIND ROOT OUT ROWS [KILL_AFTER].

KIND is a name of `tests.train.tiny_run.RUNS`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from nexus.train.config import RunSettings
from nexus.train.loop import fine_tune
from tests.train.tiny_run import RUNS


def worker_settings(kind: str, root: Path, rows: int) -> RunSettings:
    """Return what a worker runs: two calls a step, averaged weights, a measurement on the way."""
    evaluate = {"every": 2}
    return RUNS[kind].quick(root, evaluate=evaluate, steps=5, rows=rows, accumulation=2)


def main(kind: str, root: str, out: str, rows: str, kill_after: str = "0") -> None:
    """Train; die as by kill -9 after so many steps, or go on where that was."""

    def maybe_die(step: int, loss: float) -> None:
        if step == int(kill_after):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = worker_settings(kind, Path(root), int(rows))
    fine_tune(settings, out, model=RUNS[kind].model(), on_step=maybe_die)


if __name__ == "__main__":
    main(*sys.argv[1:])
