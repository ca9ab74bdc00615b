"""Automatic masks against transformers: everything but the encoder, and memory by image size.

    python -m benchmarks.automatic                          # 32 x 32 grid, ViT-B, both formats
    python -m benchmarks.automatic --points-per-side 8 --repeats 1
    python -m benchmarks.automatic --dtypes float32         # ours; transformers stays float32
    python -m benchmarks.automatic --rss                    # peak RSS at 1024 and 4096
    python -m benchmarks.automatic --workers                # two processes against one

Both sides have equal random weights, one image, one grid and thresholds of which a share of the
candidates given by --share passes. transformers' mask-generation pipeline ends in torchvision's
non-maximum suppression, which not every machine has: its steps are taken by hand with its own
image processor, and the suppression is ours on both sides. In float32 the masks of both sides are
compared before times are.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import Timing, machine
from nexus.models.cv import SAM
from nexus.ops.nms import nms
from nexus.ops.rle import decode_rle
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.parallel import generate_masks_parallel

_SIDE = 1024
_OFFSET = 0.05
_STABLE_SHARE = 1.125  # candidates that pass by score, for each that is stable too


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a Markdown report to stdout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--points-per-batch", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.4, help="of candidates that pass")
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtypes", nargs="+", default=dtypes, choices=dtypes)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rss", action="store_true")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--rss-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.rss_of:
        print(json.dumps(peak_rss(options)))
        return
    print(machine())
    if options.rss:
        report = memory(options)
    elif options.workers:
        report = workers(options)
    else:
        report = against_transformers(options)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2))


def against_transformers(options: argparse.Namespace) -> dict[str, Any]:
    """Compare total time less the encoder's, and print the table."""
    theirs, processor, ours = equal_models()
    image = picture(_SIDE)
    settings = thresholds(ours, image, options)
    plain = SAMAutomaticMaskGenerator(ours, **settings, output_mode="coco_rle")
    expected = their_masks(theirs, processor, image, options, settings)[2]
    agreement = compare(plain.generate(image), expected)
    if agreement["unmatched"] > 0:
        sys.exit(f"masks differ, nothing to compare: {agreement}")
    seconds: dict[str, list[float]] = {}

    def note(name: str, encoder: float, rest: float) -> None:
        seconds.setdefault(name, []).append(rest)
        seconds.setdefault(f"{name}, encoder", []).append(encoder)

    models = {f"Nexus, {dtype}": in_format(ours, dtype) for dtype in options.dtypes}
    for _ in range(options.repeats):  # both sides ran once above, which warmed them up
        note("transformers", *their_masks(theirs, processor, image, options, settings)[:2])
        for name, model in models.items():
            generator = SAMAutomaticMaskGenerator(model, **settings, output_mode="coco_rle")
            start = time.perf_counter()
            embedding = model.encode_image(image)
            encoded = time.perf_counter()
            generator.generate(image, image_embedding=embedding)
            note(name, encoded - start, time.perf_counter() - encoded)
    timings = {
        name: Timing(statistics.median(s), min(s), max(s), len(s)) for name, s in seconds.items()
    }
    candidates = 3 * options.points_per_side**2
    print(
        f"\n## SAM ViT-B, {_SIDE} x {_SIDE}, {options.points_per_side}^2 points\n\n"
        f"{agreement['passed']} of {candidates} candidates pass before suppression; "
        f"{agreement['masks']} masks on both sides, least IoU {agreement['least_iou']:.4f}\n"
    )
    print("| total less encoder, s | median | min to max | ratio |\n|---|---|---|---|")
    for name, timing in timings.items():
        base = timings["transformers, encoder" if "encoder" in name else "transformers"]
        spread = f"{timing.fastest:.2f} to {timing.slowest:.2f}"
        print(f"| {name} | {timing.median:.2f} | {spread} | {base.median / timing.median:.2f}x |")
    return {**agreement, **{name: timing.as_dict() for name, timing in timings.items()}}


def in_format(model: SAM, dtype: str) -> SAM:
    """Return a model in a number format; a copy, but for the one it is in."""
    wanted = getattr(torch, dtype)
    return model if next(model.parameters()).dtype == wanted else copy.deepcopy(model).to(wanted)


def equal_models() -> tuple[Any, Any, SAM]:
    """Build transformers' model with random weights, its processor, and ours from its folder."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from transformers import SamConfig, SamModel
        from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

        torch.manual_seed(0)
        theirs = SamModel(SamConfig()).eval()
        with torch.no_grad():
            # The usual small start gives flat masks; this spread gives masks with edges.
            for part in (theirs.prompt_encoder, theirs.mask_decoder):
                for parameter in part.parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(std=parameter[0].numel() ** -0.5)
            # Equal sub-pixels in the last step, or masks would be noise to the last pixel, as none
            # is that a trained decoder draws.
            last = theirs.mask_decoder.upscale_conv2.weight
            last.copy_(last[..., :1, :1].clone().expand_as(last))
            theirs.mask_decoder.iou_prediction_head.proj_out.bias.fill_(2.0)
            theirs.shared_image_embedding.positional_embedding.data.copy_(
                theirs.prompt_encoder.shared_embedding.positional_embedding
            )
        theirs.save_pretrained(folder)
        return theirs, SamImageProcessorPil(), SAM.from_checkpoint(folder, device="cpu")


def picture(side: int) -> NDArray[np.uint8]:
    """Make a picture with coarse and fine structure."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (side // 64, side // 64, 3), dtype=np.uint8)
    image = coarse.repeat(64, 0).repeat(64, 1)
    for row in image:  # by rows, lest the picture take more memory than what is measured
        row += rng.integers(0, 41, row.shape, dtype=np.uint8)
    return image


def thresholds(model: SAM, image: NDArray[np.uint8], options: argparse.Namespace) -> dict[str, Any]:
    """Choose thresholds that about the wanted share of candidates pass, from a coarse grid."""
    base: dict[str, Any] = {
        "stability_score_thresh": 0.0,
        "stability_score_offset": _OFFSET,
        "box_nms_thresh": 1.0,
    }
    probe = SAMAutomaticMaskGenerator(
        model, points_per_side=6, pred_iou_thresh=0.0, output_mode="coco_rle", **base
    )
    records = probe.generate(image)
    scores = [record["predicted_iou"] for record in records]
    # Most of what goes, goes by its score, as with trained weights; the rest for want of stability.
    cut = float(np.quantile(scores, 1 - options.share * _STABLE_SHARE))
    stable = [r["stability_score"] for r in records if r["predicted_iou"] > cut]
    return {
        **base,
        "points_per_side": options.points_per_side,
        "points_per_batch": options.points_per_batch,
        "pred_iou_thresh": cut,
        "stability_score_thresh": float(np.quantile(stable, 1 - 1 / _STABLE_SHARE)),
        "box_nms_thresh": 1.0,
    }


@torch.no_grad()
def their_masks(
    model: Any,
    processor: Any,
    image: NDArray[np.uint8],
    options: argparse.Namespace,
    settings: dict[str, Any],
) -> tuple[float, float, list[tuple[dict[str, Any], float]]]:
    """Take the pipeline's steps: seconds of the encoder, of the rest, and the masks with scores."""
    boxes, grid, crops, labels = processor.generate_crop_boxes(
        image, _SIDE, 0, 512 / 1500, options.points_per_side, 1
    )
    inputs = processor(images=crops, return_tensors="pt")
    sizes, reshaped = inputs["original_sizes"].tolist(), inputs["reshaped_input_sizes"].tolist()
    start = time.perf_counter()
    features = model.get_image_embeddings(inputs["pixel_values"])
    encoded = time.perf_counter()
    rles: list[dict[str, Any]] = []
    scores, found = [], []
    for i in range(0, grid.shape[1], options.points_per_batch):
        part = slice(i, i + options.points_per_batch)
        output = model(
            image_embeddings=features, input_points=grid[:, part], input_labels=labels[:, part]
        )
        masks = processor.post_process_masks(
            output.pred_masks, sizes, reshaped, settings.get("mask_threshold", 0.0), binarize=False
        )
        kept, iou, box = processor.filter_masks(
            masks[0],
            output.iou_scores[0],
            tuple(sizes[0]),
            boxes[0],
            settings["pred_iou_thresh"],
            settings["stability_score_thresh"],
            0.0,
            settings["stability_score_offset"],
        )
        rles += kept
        scores.append(iou)
        found.append(box)
    order = nms(torch.cat(found).numpy(), torch.cat(scores).numpy(), settings["box_nms_thresh"])
    values = torch.cat(scores).tolist()
    records = [(rles[index], values[index]) for index in order]
    return encoded - start, time.perf_counter() - encoded, records


def compare(
    ours: list[dict[str, Any]], theirs: list[tuple[dict[str, Any], float]]
) -> dict[str, Any]:
    """Match masks by predicted IoU and overlap; those within 2e-3 of a threshold may differ."""
    left = list(ours)
    least, unmatched = 1.0, 0
    for rle, score in theirs:
        counts = [int(count) for count in rle["counts"]]
        mask = decode_rle({"size": [int(side) for side in rle["size"]], "counts": counts})
        near = [r for r in left if abs(r["predicted_iou"] - score) < 1e-3]
        overlaps = [_iou(decode_rle(record["segmentation"]), mask) for record in near]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] < 0.99:
            unmatched += 1
            continue
        least = min(least, overlaps[best])
        left.remove(near[best])
    tolerated = max(2, len(theirs) // 100)  # at the thresholds themselves rounding decides
    return {
        "passed": len(theirs),
        "masks": len(theirs) - unmatched,
        "at_thresholds": unmatched + len(left),
        "unmatched": max(0, unmatched + len(left) - tolerated),
        "least_iou": least,
    }


def _iou(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | two)
    return float(np.count_nonzero(one & two) / union) if union else 1.0


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Compare the peak memory of fresh processes at two image sizes, and print the table."""
    report: dict[str, Any] = {}
    for side in (_SIDE, 4 * _SIDE):
        command = [sys.executable, "-m", "benchmarks.automatic", "--rss-of", str(side)]
        command += ["--points-per-side", str(options.points_per_side)]
        command += ["--threads", str(options.threads), "--share", str(options.share)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        report[str(side)] = json.loads(result.stdout.splitlines()[-1])
    small, large = (report[str(side)]["peak_mib"] for side in (_SIDE, 4 * _SIDE))
    print("\n| image | peak RSS, MiB | masks | ratio |\n|---|---|---|---|")
    for name, row in report.items():
        ratio = row["peak_mib"] / small
        print(f"| {name} x {name} | {row['peak_mib']:.0f} | {row['masks']} | {ratio:.2f}x |")
    return {**report, "ratio": large / small}


def peak_rss(options: argparse.Namespace) -> dict[str, float]:
    """Find the masks of one image in this process; return its peak memory."""
    import resource

    torch.manual_seed(0)
    model = SAM.from_checkpoint(_weights_folder(), device="cpu")
    image = picture(options.rss_of)
    settings = thresholds(model, picture(_SIDE), options)
    records = SAMAutomaticMaskGenerator(model, **settings, output_mode="coco_rle").generate(image)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mib": peak, "masks": len(records)}


def _weights_folder() -> Path:
    """Return a folder with the random weights, written by a process of its own."""
    folder = Path(tempfile.gettempdir()) / "nexus_benchmark_automatic"
    if not (folder / "model.safetensors").is_file():
        code = (
            "from benchmarks.automatic import equal_models; import sys;"
            "equal_models()[0].save_pretrained(sys.argv[1])"
        )
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            command = [sys.executable, "-c", code, str(Path(fresh) / "weights")]
            subprocess.run(command, check=True, capture_output=True)
            (Path(fresh) / "weights").replace(folder)
    return folder


def workers(options: argparse.Namespace) -> dict[str, Any]:
    """Compare processes and threads on four images, and print the table."""
    model = SAM.from_checkpoint(_weights_folder(), device="cpu")
    images = [picture(_SIDE)] * 4
    settings = {**thresholds(model, images[0], options), "output_mode": "coco_rle"}
    forms = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2)}
    forms["2 processes, 1 thread each"] = (2, 1)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(options.repeats):
        for name, (count, threads) in forms.items():
            start = time.perf_counter()
            generate_masks_parallel(images, count, model, threads_per_worker=threads, **settings)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians["1 process, 1 thread"]
    print("\n| four images, start of the processes included | s | ratio |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.1f} | {base / value:.2f}x |")
    return medians


if __name__ == "__main__":
    main()
