"""The soak of `make proof-memory`, on less: sessions do not grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In a process of its own, whose memory holds nothing of other tests.
CODE = """
import torch
from benchmarks.soak import soak
torch.set_num_threads(1)
for name, objects, late in (("one", 1, 0), ("late", 2, 4)):
    print(soak(name, 1200, objects, late).slope)
"""


@pytest.mark.slow
def test_resident_memory_has_no_slope() -> None:
    """Less than 1 KB per frame after warm-up, with one object and with late ones."""
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=False
    )
    slopes = [float(line) for line in result.stdout.split()]

    assert len(slopes) == 2, result.stderr
    assert max(slopes) < 1024
