from __future__ import annotations

import time

import torch

from nexus.eval.efficiency import (
    Stopwatch,
    describe_machine,
    peak_accelerator_bytes,
    peak_memory_bytes,
    summarise_costs,
    versions,
)


def test_parts_add_up(monkeypatch) -> None:
    """Seconds of a part are added each time; a part that fails counts too."""
    ticks = iter([0.0, 1.0, 5.0, 7.0, 10.0, 10.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.part("decoder_s"):
            pass
    try:
        with watch.part("encoder_s"):
            raise ValueError
    except ValueError:
        pass

    assert watch.seconds == {"decoder_s": 3.0, "encoder_s": 0.5}


def test_costs_are_medians_and_peaks() -> None:
    """Times are medians of what one prompt or frame took; of memory the largest counts."""
    costs = [
        {"encoder_s": s, "decoder_s": 4 * s, "prompts": 2, "peak_rss_bytes": int(s)}
        for s in (1.0, 2.0, 30.0)
    ]
    videos = [{"tracker_s": 6.0, "frames": 3, "peak_accelerator_bytes": None}]

    assert summarise_costs(costs) == {
        "encoder_s": 2.0,
        "decoder_per_prompt_s": 4.0,
        "peak_rss_bytes": 30,
    }
    assert summarise_costs(videos) == {"frame_s": 2.0}
    assert summarise_costs([{"decoder_s": 1.0, "prompts": 0}]) == {}


def test_the_machine_is_described() -> None:
    """Processor, threads and versions are what this process runs on."""
    machine = describe_machine("cpu")
    peak = peak_memory_bytes()

    assert machine["threads"] == torch.get_num_threads()
    assert machine["processor"]
    assert machine["device"] == "cpu"
    assert versions()["torch"] == torch.__version__
    assert peak is None or peak > 2**24
    assert peak_accelerator_bytes(torch.device("cpu")) is None
