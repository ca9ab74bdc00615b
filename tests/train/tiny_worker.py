"""A run in a process of its own: python -m tests.train.tiny_worker ROOT OUT ROWS [KILL_AFTER]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from nexus.train.config import OptimizerSettings
from nexus.train.loop import fine_tune
from tests.models.tiny import tiny_sam
from tests.train.tiny_run import tiny_settings


def main(root: str, out: str, rows: str, kill_after: str = "0") -> None:
    """Train; die as by kill -9 after so many steps, or go on where that was."""

    def maybe_die(step: int, loss: float) -> None:
        if step == int(kill_after):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = tiny_settings(
        Path(root),
        optimizer=OptimizerSettings(
            steps=5, rows=int(rows), learning_rate=2e-3, warmup_steps=2, accumulation=2
        ),
    )
    fine_tune(settings, out, resume=True, model=tiny_sam(), on_step=maybe_die)


if __name__ == "__main__":
    main(*sys.argv[1:])
