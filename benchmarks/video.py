"""Tracking against transformers' Sam2VideoModel and against one object at a time.

    python -m benchmarks.video                                  # Hiera-T at 256 pixels
    python -m benchmarks.video --input-side 1024 --objects 1 4  # the trained side, slow on a CPU
    python -m benchmarks.video --dtypes float32 --frames 9 --repeats 1

All sides have equal random weights, frames, boxes and threads, and take turns frame by frame in
one process. Only frames whose memory is full are timed. Our times include what a caller gets, masks
at the size of the frame as arrays; theirs end at low-resolution logits and begin with frames made
ready before. Outputs are compared before times are. Read ratios, not seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import machine
from nexus.models.cv.sam2 import SAM2, VARIANTS, SAM2Config
from nexus.models.memory import FrameFeatures, ObjectOutputs, Recall
from nexus.models.policy import SAM2_POLICY
from tests.parity.hugging_face_sam2 import backbone_settings, their_state

_STEPS = ("encode", "memory attention", "decode", "memory encode")
_OURS = {
    "encode_frames": "encode",
    "frame_features": "encode",
    "condition": "memory attention",
    "decode_objects": "decode",
    "encode_memory": "memory encode",
}
_THEIRS = {
    "get_image_features": "encode",
    "_prepare_memory_conditioned_features": "memory attention",
    "_single_frame_forward": "decode",
    "_batch_encode_memories": "memory encode",
}
_FULL = 7  # from this frame on, as many frames are looked back at as ever will be


@dataclass
class Split:
    """Seconds of each timed frame, whole and by step."""

    whole: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _STEPS})

    def median(self, step: str | None = None) -> float:
        """Return the median of whole frames, or of one step."""
        return statistics.median(self.whole if step is None else self.steps[step])

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {
            "median": self.median(),
            "fastest": min(self.whole),
            "slowest": max(self.whole),
            "frames": len(self.whole),
            "steps": {name: self.median(name) for name in _STEPS},
        }


class OneByOne(SAM2):
    """SAM 2 that goes through the steps of tracking with one object after the other."""

    def condition(
        self, frame: FrameFeatures, recalls: Sequence[Recall], max_pointers: int | None = None
    ) -> Tensor:
        """Condition on one object's memories after the other's."""
        return torch.cat(
            [super(OneByOne, self).condition(frame, [r], max_pointers) for r in recalls]
        )

    def decode_objects(
        self, frame: FrameFeatures, features: Tensor, prompts: Any = None, habits: Any = None
    ) -> ObjectOutputs:
        """Decode one object after the other; a prompt is one object's already."""
        decode = super().decode_objects
        if prompts is not None:
            return decode(frame, features, prompts, habits)
        rows = [decode(frame, row[None], None, habits) for row in features]
        return ObjectOutputs(
            torch.cat([row.low_res_logits for row in rows]),
            torch.cat([row.iou_scores for row in rows]),
            torch.cat([row.object_pointer for row in rows]),
            torch.cat([row.object_score_logits for row in rows]),
            None,
        )

    def encode_memory(
        self,
        frame: FrameFeatures,
        low_res_logits: Tensor,
        object_score_logits: Tensor,
        given: Any,
        habits: Any = None,
    ) -> Tensor:
        """Encode one object after the other."""
        asked = torch.as_tensor(given).expand(len(low_res_logits))
        rows = zip(low_res_logits, object_score_logits, asked, strict=True)
        encode = super().encode_memory
        return torch.cat([encode(frame, m[None], s[None], a[None], habits) for m, s, a in rows])


@dataclass
class Side:
    """One contestant.

    Attributes:
        model: What is timed.
        methods: Its methods, and the step each belongs to.
        track: Yields low-resolution logits (K, h, w) frame by frame.
    """

    model: Any
    methods: dict[str, str]
    track: Callable[[], Iterator[NDArray[Any]]]


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a Markdown report to stdout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = [name for name in VARIANTS if name.startswith("sam2.1")]
    parser.add_argument("--model", default="sam2.1_hiera_tiny", choices=names)
    parser.add_argument("--input-side", type=int, default=256)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 16])
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtypes", nargs="+", default=dtypes, choices=dtypes)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args(arguments)
    if options.frames <= _FULL:
        parser.error(f"expected --frames above {_FULL}, got {options.frames}")
    torch.set_num_threads(options.threads)

    print(machine().replace(", float32", ""))  # the number format is in the headings
    report = {
        f"{dtype}, {count} objects": compare(getattr(torch, dtype), count, options)
        for dtype in options.dtypes
        for count in options.objects
    }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2))


def compare(dtype: torch.dtype, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Compare the three sides for one number of objects, and print the table."""
    sides = contestants(dtype, count, options)
    deviations = check_outputs(sides, dtype)
    splits = {name: Split() for name in sides}
    for _ in range(options.repeats):
        time_frames(sides, splits)
    name = str(dtype).removeprefix("torch.")
    print(f"\n## {options.model} at {options.input_side}, {name}, {count} objects\n")
    print("; ".join(f"{what}: {value:.2g}" for what, value in deviations.items()) + "\n")
    print(table(splits))
    return {**deviations, **{name: split.as_dict() for name, split in splits.items()}}


def contestants(dtype: torch.dtype, count: int, options: argparse.Namespace) -> dict[str, Side]:
    """Build the three sides with equal weights, frames and boxes."""
    side, total = options.input_side, options.frames
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (total, side, side, 3), dtype=np.uint8)
    corners = rng.uniform(0, side / 2, (count, 2))
    boxes = np.concatenate([corners, corners + side / 3], 1).astype(np.float32)
    # Theirs has no filling of holes.
    config = dataclasses.replace(VARIANTS[options.model], fill_hole_area=0)
    ours = random_model(SAM2, config, side)
    single = OneByOne(config, "one by one", ours.policy)
    single.load_state_dict(ours.state_dict())
    theirs = their_video_model(ours, side).to(dtype)

    def our_track(model: SAM2) -> Callable[[], Iterator[NDArray[Any]]]:
        def track() -> Iterator[NDArray[Any]]:
            with model.video(frames) as session:
                for object_id, box in enumerate(boxes, 1):
                    session.add(frame_index=0, object_id=object_id, box=box)
                for frame in session.propagate():
                    yield frame.low_res_logits

        return track

    mean, std = (torch.tensor(v) for v in (ours.policy.pixel_mean, ours.policy.pixel_std))
    ready = ((torch.from_numpy(frames).float() - mean) / std).permute(0, 3, 1, 2).contiguous()

    def their_track() -> Iterator[NDArray[Any]]:
        for output in theirs.propagate_in_video_iterator(
            their_session(ready, boxes, dtype), start_frame_idx=0
        ):
            yield output.pred_masks[:, 0].float().numpy()

    ours, single = ours.to(dtype=dtype), single.to(dtype=dtype)
    return {
        "Nexus": Side(ours, _OURS, our_track(ours)),
        "Nexus, one by one": Side(single, _OURS, our_track(single)),
        "transformers": Side(theirs, _THEIRS, their_track),
    }


def check_outputs(sides: dict[str, Side], dtype: torch.dtype) -> dict[str, float]:
    """Run each side once, and leave if outputs differ by more than the number format explains.

    In bfloat16 two candidates whose scores are almost equal may change places, and then all of a
    mask differs; so the median over objects and frames is compared there, and the largest deviation
    in float32.

    Returns:
        For each of the other sides, the deviation of logits from ours as a share of the largest
        logit, and the share of pixels on which masks differ.
    """
    ours, others = sides["Nexus"], list(sides.items())[1:]
    # Theirs keeps memories in bfloat16 whatever the model is in; for this run, so does ours.
    encode = ours.model.encode_memory
    ours.model.encode_memory = lambda *a: encode(*a).bfloat16().to(dtype)
    rounded = np.stack(list(ours.track()))
    del ours.model.encode_memory
    exact = np.stack(list(ours.track()))
    deviations: dict[str, float] = {}
    exactly = dtype == torch.float32
    limit = 2e-3 if exactly else 0.1
    for name, side in others:
        theirs = np.stack(list(side.track()))
        mine = rounded if name == "transformers" else exact
        shares = np.abs(mine - theirs).max((2, 3)) / np.abs(theirs).max()  # (T, K)
        share = float(shares.max() if exactly else np.median(shares))
        pixels = float(((mine > 0) != (theirs > 0)).mean())
        deviations |= {f"{name}, logits": share, f"{name}, pixels": pixels}
        if share > limit or pixels > limit:
            sys.exit(f"{name}: logits differ by {share:.2g}, masks in {pixels:.2g} of the pixels")
    return deviations


def time_frames(sides: dict[str, Side], splits: dict[str, Split]) -> None:
    """Track once on each side, and note the times of the frames whose memory is full.

    The sides take turns frame by frame, so that what else the machine does hits all of them.
    """
    with ExitStack() as stack:
        spent = {n: stack.enter_context(stopwatch(s.model, s.methods)) for n, s in sides.items()}
        running = {name: side.track() for name, side in sides.items()}
        for frames in running.values():
            for _ in range(_FULL):
                next(frames)
        while True:
            for name, frames in running.items():
                spent[name].clear()
                start = time.perf_counter()
                if next(frames, None) is None:
                    return
                splits[name].whole.append(time.perf_counter() - start)
                for step in _STEPS:
                    splits[name].steps[step].append(spent[name].get(step, 0.0))


@contextmanager
def stopwatch(model: Any, methods: dict[str, str]) -> Iterator[dict[str, float]]:
    """Add up the seconds spent in methods of a model, by step."""
    spent: dict[str, float] = {}

    def timed(method: Callable[..., Any], step: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = method(*arguments, **named)
            spent[step] = spent.get(step, 0.0) + time.perf_counter() - start
            return result

        return call

    for name, step in methods.items():
        setattr(model, name, timed(getattr(model, name), step))
    try:
        yield spent
    finally:
        for name in methods:
            delattr(model, name)


def random_model(cls: type[SAM2], config: SAM2Config, side: int) -> SAM2:
    """Build a model with random weights in which objects are seen."""
    torch.manual_seed(0)
    model = cls(config, "random", dataclasses.replace(SAM2_POLICY, input_side=side))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith("gamma"):
                parameter.fill_(1)
            elif name == "sam_mask_decoder.pred_obj_score_head.layers.2.bias":
                parameter.fill_(5)
    return model.requires_grad_(False)


def their_video_model(ours: SAM2, side: int) -> Any:
    """Build transformers' model of the same size, with the same weights."""
    trunk: Any = ours.config.trunk
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import (
            Sam2HieraDetConfig,
            Sam2VideoConfig,
            Sam2VideoModel,
            Sam2VisionConfig,
        )

        vision = Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(image_size=[side, side], **backbone_settings(trunk)),
            backbone_channel_list=list(trunk.stage_widths)[::-1],
            backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
        )
        config = Sam2VideoConfig(
            vision_config=vision,
            prompt_encoder_config={"image_size": side},
            image_size=side,
            memory_attention_rope_feat_sizes=[side // 16] * 2,
        )
        model = Sam2VideoModel(config).eval().requires_grad_(False)
    model.load_state_dict(their_state(ours), strict=True)
    return model


def their_session(frames: Tensor, boxes: NDArray[np.float32], dtype: torch.dtype) -> Any:
    """Open a session of theirs, with a box for each object on the first frame."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    height, width = frames.shape[-2:]
    session = Sam2VideoInferenceSession(frames, height, width, dtype=dtype)
    for object_id, box in enumerate(boxes, 1):
        index = session.obj_id_to_idx(object_id)
        corners = torch.from_numpy(box).view(1, 1, 2, 2).to(dtype)
        labels = torch.tensor([[[2, 3]]], dtype=torch.int32)
        session.add_point_inputs(index, 0, {"point_coords": corners, "point_labels": labels})
        session.obj_with_new_inputs.append(object_id)
    return session


def table(splits: dict[str, Split]) -> str:
    """Return the times as Markdown; the rest is what is spent outside the four steps."""
    ours = splits["Nexus"].median()
    head = ["s a frame, median", *_STEPS, "rest", "whole", "min to max", "of the time of Nexus"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, split in splits.items():
        steps = [split.median(step) for step in _STEPS]
        whole = split.median()
        cells = [name, *(f"{s:.4f}" for s in (*steps, max(whole - sum(steps), 0.0), whole))]
        cells += [f"{min(split.whole):.4f} to {max(split.whole):.4f}", f"{whole / ours:.2f}x"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
