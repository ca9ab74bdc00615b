"""What an answer costs: seconds of encoder and decoder, memory, and on which machine."""

from __future__ import annotations

import platform
import re
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

from nexus.predict.threads import available_cores


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
        start_s = self._now()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + (self._now() - start_s)

    def timed(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        """Yield from an iterator; its own time, and not the caller's, goes to a part."""
        while True:
            with self.part(name):
                item = next(items, None)
            if item is None:
                return
            yield item

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


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
        found |= {name: max(peaks)} if peaks else {}
    return found


def describe_machine(device: torch.device | str, threads: int | None = None) -> dict[str, Any]:
    """Return processor, cores, threads (None: those of PyTorch now) and device, as JSON values."""
    kind = torch.device(device).type
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "threads": threads or torch.get_num_threads(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "device": torch.cuda.get_device_name(device) if kind == "cuda" else kind,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, Nexus and the packages the figures depend on."""
    from nexus.version import __version__

    packages = {name: metadata.version(name) for name in ("torch", "numpy", "scipy", "pillow")}
    return {"nexus": __version__, "python": platform.python_version(), **packages}


def _processor() -> str:
    """Return the processor's name; its architecture where the system does not tell."""
    table = Path("/proc/cpuinfo")
    text = table.read_text("utf-8", "replace") if table.is_file() else ""
    found = re.search(r"^model name[^:\n]*:(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
