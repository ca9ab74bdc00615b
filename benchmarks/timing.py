"""The contract every benchmark here keeps: warm-up, turns, median and spread, the machine named."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of several runs of one thing."""

    median: float
    fastest: float
    slowest: float
    runs: int

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return asdict(self)


def take_turns(
    work: dict[str, Callable[[], object]], repeats: int, per: int = 1
) -> dict[str, Timing]:
    """Time each entry `repeats` times, in turns, after one run each that does not count.

    Args:
        work: What to time, by name.
        repeats: Runs of each.
        per: How many units one run does; the times are for one unit.
    """
    for call in work.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) / per)
    return {
        name: Timing(statistics.median(values), min(values), max(values), repeats)
        for name, values in times.items()
    }


def machine() -> str:
    """Describe the machine and the versions a report is for."""
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    try:
        import transformers

        versions.append(f"transformers {transformers.__version__}")
    except ImportError:
        versions.append("no transformers")
    return f"{_processor()}, {torch.get_num_threads()} threads, CPU, float32; {', '.join(versions)}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
