"""This checkout against a former one: image, batch, automatic masks, video and training, in turns.

    git worktree add ../former COMMIT
    python -m benchmarks.former ../former
    python -m benchmarks.former ../former --work encode video_4 --repeats 5

Each checkout has a process of its own, in this environment, with equal computed weights; the two
do one piece of work at a time, in turns, so that what else the machine does hits both. What they
give is compared before times are. The table shows former / this: above 1 this checkout is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
_SIDE = 512  # of automatic masks, video and training; the encoders run at their own side
_LEAST_EQUAL = 0.999  # share of pixels the two must have in common


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("former", type=Path, help="another checkout of Nexus")
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        return serve(options.serve)
    for name in options.work:
        sides = {side: _start(path) for side, path in (("former", options.former), ("this", ROOT))}
        times: dict[str, list[float]] = {side: [] for side in sides}
        results = {side: _ask(process, name)[1] for side, process in sides.items()}
        _compare(name, results)
        for repeat in range(options.repeats):
            order = list(sides) if repeat % 2 else list(sides)[::-1]
            for side in order:
                times[side].append(_ask(sides[side], name)[0])
        for process in sides.values():
            cast("IO[str]", process.stdin).close()
            process.wait()
        medians = {side: statistics.median(values) for side, values in times.items()}
        pairs = [a / b for a, b in zip(times["former"], times["this"], strict=True)]
        print(
            f"{name:12s} former {medians['former']:8.3f} s  this {medians['this']:8.3f} s  "
            f"ratio {medians['former'] / medians['this']:.3f}  "
            f"(pairs {min(pairs):.3f} to {max(pairs):.3f}, {options.repeats} each)",
            flush=True,
        )
    return 0


def _start(checkout: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, str(Path(__file__).resolve()), "-", "--serve", str(checkout)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env=environment,
    )


def _ask(process: subprocess.Popen[str], name: str) -> tuple[float, Path]:
    """Let a process do one piece of work: seconds, and the file of what came of it."""
    stdin, stdout = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
    stdin.write(name + "\n")
    stdin.flush()
    line = stdout.readline()
    if not line:
        raise SystemExit(f"{name} failed in one of the checkouts; its message is above")
    seconds, path = json.loads(line)
    return float(seconds), Path(path)


def _compare(name: str, results: dict[str, Path]) -> None:
    """Refuse to compare the times of different results."""
    mine, theirs = (np.load(path) for path in results.values())
    equal = mine.shape == theirs.shape and float((mine == theirs).mean())
    if equal < _LEAST_EQUAL:
        raise SystemExit(f"{name}: expected equal results, got a share of {equal} of the pixels")


def serve(checkout: Path) -> int:
    """Do pieces of work as their names come in on stdin, and say how long each took."""
    import tempfile

    import nexus

    if Path(nexus.__file__).resolve().parents[1] != checkout.resolve():
        raise SystemExit(f"expected nexus of {checkout}, got {nexus.__file__}")
    kept: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            name = line.strip()
            if name not in kept:
                kept[name] = WORK[name]()
            start = time.perf_counter()
            result = kept[name]()
            seconds = time.perf_counter() - start
            path = Path(folder) / f"{name}.npy"
            np.save(path, np.asarray(result))
            print(json.dumps([seconds, str(path)]), flush=True)
    return 0


def _filled(model: Any) -> Any:
    """Fill a model with weights that follow from their names alone."""
    import torch

    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if (
                weight.ndim == 0
                or "running_" in name
                or (name.endswith("weight") and weight.ndim == 1)
            ):
                continue  # of a norm: ones and zeros
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            spread = 0.02 if weight.ndim == 1 else weight[0].numel() ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return model.eval()


def _sam(name: str) -> Any:
    from nexus.models.cv.sam import SAM, VARIANTS

    return _filled(SAM(VARIANTS[name]))


def _sam2() -> Any:
    from nexus.models.cv.sam2 import SAM2, VARIANTS

    return _filled(SAM2(VARIANTS["sam2.1_hiera_tiny"]))


def _picture(height: int, width: int, seed: int = 0) -> Any:
    """Return a picture of soft spots."""
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 32, width // 32, 3))
    return np.kron(coarse, np.ones((32, 32, 1))).astype(np.uint8)


def _encode() -> Callable[[], Any]:
    model, picture = _sam("sam_vit_b"), _picture(768, 1024)
    return lambda: model.encode_image(picture).features.sum(0).numpy() > 0


def _prompts(count: int) -> list[tuple[float, ...]]:
    random = np.random.default_rng(1)
    return [tuple(xy.tolist()) for xy in random.uniform(10, 500, (count, 2))]


def _predict(count: int) -> Callable[[], Any]:
    model = _sam("mobile_sam")
    embedding = model.encode_image(_picture(512, 512))
    prompts = _prompts(count)
    return lambda: [masks.masks for masks in model.predict_batch(embedding, prompts)]


def _singly() -> Callable[[], Any]:
    model = _sam2()
    embedding = model.encode_image(_picture(512, 512))
    return lambda: [
        model.predict(image_embedding=embedding, prompt=prompt).masks for prompt in _prompts(16)
    ]


def _automatic(model: Any) -> Callable[[], Any]:
    from nexus import SAMAutomaticMaskGenerator

    generator = SAMAutomaticMaskGenerator(
        model,
        points_per_side=12,
        pred_iou_thresh=-1e9,
        stability_score_thresh=0.0,
        box_nms_thresh=0.7,
    )
    picture = _picture(_SIDE, _SIDE)
    return lambda: np.stack([record["segmentation"] for record in generator.generate(picture)])


def _video(objects: int) -> Callable[[], Any]:
    model = _sam2()
    frames = [np.roll(_picture(_SIDE, _SIDE), 8 * t, axis=1) for t in range(10)]

    def work() -> Any:
        with model.video(frames, input_side=256) as session:
            for k in range(objects):
                x = 20 + 440 * k / max(1, objects)
                session.add(frame_index=0, object_id=k + 1, box=(x, 100, x + 60, 260))
            return [frame.masks for frame in session.propagate()]

    return work


def _forward() -> Callable[[], Any]:
    import torch

    model = _sam("mobile_sam")
    embedding = model.encode_image(_picture(512, 512))
    prompts = [_prompts(16)]

    def work() -> Any:
        model.zero_grad()
        logits = model([embedding], prompts)
        torch.autograd.backward(torch.sigmoid(logits).mean())
        return logits.detach().numpy() > 0

    return work


WORK: dict[str, Callable[[], Callable[[], Any]]] = {
    "encode": _encode,
    "predict_64": lambda: _predict(64),
    "predict_1": _singly,
    "automatic": lambda: _automatic(_sam("mobile_sam")),
    "automatic_2": lambda: _automatic(_sam2()),
    "video_1": lambda: _video(1),
    "video_4": lambda: _video(4),
    "video_16": lambda: _video(16),
    "forward": _forward,
}
"""What is timed, by name: a function that makes ready and returns the work."""


if __name__ == "__main__":
    sys.exit(main())
