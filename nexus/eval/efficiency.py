"""What an answer costs: seconds of encoder and decoder, memory, and on which machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

_PACKAGES = ("torch", "numpy", "scipy", "pillow")


@dataclass
class Stopwatch:
    """Seconds spent in named parts of the work on one image.

    Attributes:
        device: The clock is read when all work given to it is done.
        seconds: By part.
    """

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to a part."""
        self._wait()
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            took_s = time.perf_counter() - start_s
            self.seconds[name] = self.seconds.get(name, 0.0) + took_s

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peak_memory_bytes() -> int | None:
    """Return the most RAM this process ever held; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # the one counts bytes, others KiB


def peak_accelerator_bytes(device: torch.device) -> int | None:
    """Return the most memory PyTorch ever held on a CUDA device; None on others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def summarise_costs(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return medians of times and sizes over images, and the largest of memory.

    Args:
        costs: One for each image or video, with any of `encoder_s`, `decoder_s`, `prompts`,
            `tracker_s`, `frames`, `embedding_bytes`, `peak_rss_bytes`, `peak_accelerator_bytes`.

    Returns:
        `encoder_s`, `decoder_per_prompt_s` and `frame_s` are medians over images of what one
        image took on average; what was never measured is left out.
    """
    quantities = {
        "encoder_s": [c["encoder_s"] for c in costs if "encoder_s" in c],
        "decoder_per_prompt_s": [c["decoder_s"] / c["prompts"] for c in costs if c.get("prompts")],
        "frame_s": [c["tracker_s"] / c["frames"] for c in costs if c.get("frames")],
        "embedding_bytes": [c["embedding_bytes"] for c in costs if "embedding_bytes" in c],
    }
    found = {name: float(np.median(values)) for name, values in quantities.items() if values}
    for name in ("peak_rss_bytes", "peak_accelerator_bytes"):
        peaks = [c[name] for c in costs if c.get(name) is not None]
        if peaks:
            found[name] = max(peaks)
    return found


def describe_machine(device: torch.device | str) -> dict[str, Any]:
    """Return processor, cores, threads and device, as JSON values."""
    device = torch.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "device": device.type,
    }
    if device.type == "cuda":
        described["device"] = torch.cuda.get_device_name(device)
    return described


def versions() -> dict[str, str]:
    """Return the versions of Python, Nexus and the packages the figures depend on."""
    from nexus import __version__

    return {
        "nexus": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    """Return the processor's name; its architecture where the system does not tell."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
