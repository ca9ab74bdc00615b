"""Image models against transformers' SAM: encoder time, decoder time per prompt, embedding bytes.

    python -m benchmarks.image                       # ViT-B against transformers' SamModel
    python -m benchmarks.image --sizes vit_b --repeats 5 --prompts 64
    python -m benchmarks.image --lite-medsam         # also LiteMedSAM with its real weights

Both sides have equal random weights, the same threads and the same input, and take turns in one
process, so that what else the machine does hits both. Outputs are compared before times are.
Times are medians with the spread of the runs; read ratios, not seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import Timing, machine, take_turns
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.cv import SAM, MedSAM
from nexus.models.promptable import PromptableModel, decode_alike
from nexus.nn.batching import in_parts, prompts_at_once

_SIZES: dict[str, dict[str, Any]] = {
    "vit_b": {},
    "vit_l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "mlp_dim": 4096,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "vit_h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "mlp_dim": 5120,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a Markdown report to stdout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["vit_b"], choices=sorted(_SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--lite-medsam", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    print(machine())
    report = {size: against_transformers(size, options) for size in options.sizes}
    if options.lite_medsam:
        medsam = MedSAM.from_pretrained("lite_medsam", device="cpu")
        report["lite_medsam"] = {
            name: timing.as_dict() for name, timing in ours_alone(medsam, options).items()
        }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2))


def against_transformers(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Compare one ViT size, and print its table."""
    theirs, ours = _equal_models(size)
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    mean, std = (torch.tensor(v) for v in (ours.policy.pixel_mean, ours.policy.pixel_std))
    frame = ((torch.from_numpy(image).float() - mean) / std).permute(2, 0, 1)[None].contiguous()
    points = np.random.default_rng(1).uniform(0, 1024, (options.prompts, 2)).astype(np.float32)
    prompts = [Prompt(points=point) for point in points]
    with torch.no_grad():
        features = theirs.get_image_embeddings(frame)
        deviation = (ours.image_encoder(frame) - features).abs().max().item()
        embedding = ours.encode_image(image)
        expected = _their_masks(theirs, features, points[:1])
    logits = ours.predict(image_embedding=embedding, prompt=points[0]).low_res_logits
    reference = expected.pred_masks[0, 0].numpy()
    mask_deviation = float(np.abs(logits - reference).max() / np.abs(reference).max())
    # Not less: their decoder's norms have an epsilon of 1e-6 where the original's have 1e-5.
    if deviation > 2e-4 or mask_deviation > 2e-3:
        sys.exit(f"outputs differ by {deviation:.2g} and {mask_deviation:.2g}: nothing to compare")

    with torch.no_grad():
        encoder = take_turns(
            {
                "transformers": lambda: theirs.get_image_embeddings(frame),
                "Nexus": lambda: ours.image_encoder(frame),
            },
            options.repeats,
        )
        decoder = take_turns(
            {
                "transformers, one by one": lambda: [
                    _their_masks(theirs, features, p[None]) for p in points
                ],
                "transformers, one batch": lambda: _their_masks(theirs, features, points),
                "Nexus, one by one": lambda: [_decode(ours, embedding, [p]) for p in prompts],
                "Nexus, predict_batch's chunks": lambda: [
                    _decode(ours, embedding, part)
                    for part in in_parts(prompts, prompts_at_once(ours.device))
                ],
            },
            options.repeats,
            per=len(points),
        )
        whole = take_turns(
            {
                "predict, one by one": lambda: [
                    ours.predict(image_embedding=embedding, prompt=p) for p in points
                ],
                "predict_batch": lambda: ours.predict_batch(embedding, list(points)),
            },
            options.repeats,
            per=len(points),
        )
    print(f"\n## SAM {size}: {options.prompts} point prompts, three masks each, 1024 x 1024\n")
    print(
        f"largest deviation: features {deviation:.2g}, logits {mask_deviation:.2g} of the largest\n"
    )
    print(_table("encoder, s an image", encoder, "transformers"))
    print(_table("decoder, s a prompt (low-res logits)", decoder, "transformers, one by one"))
    print(_table("prompt to full-size masks, s a prompt", whole, "predict, one by one"))
    print(f"embedding: {embedding.nbytes:,} bytes\n")
    groups = {"encoder": encoder, "decoder": decoder, "full_size": whole}
    return {
        group: {name: timing.as_dict() for name, timing in timings.items()}
        for group, timings in groups.items()
    }


def ours_alone(model: PromptableModel, options: argparse.Namespace) -> dict[str, Timing]:
    """Time a model that no peer here can run, and print its table."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    embedding = model.encode_image(image)
    boxes = [(10.0 + i, 20.0, 200.0 + i, 300.0) for i in range(options.prompts)]
    timings = take_turns({"encode_image": lambda: model.encode_image(image)}, options.repeats)
    timings |= take_turns(
        {"predict_batch, a prompt": lambda: model.predict_batch(embedding, boxes)},
        options.repeats,
        per=len(boxes),
    )
    print(f"\n## {model.variant}: 640 x 480, {options.prompts} boxes\n")
    print(_table("s", timings, "encode_image"))
    print(f"embedding: {embedding.nbytes:,} bytes\n")
    return timings


def _equal_models(size: str) -> tuple[Any, SAM]:
    """Build transformers' model with random weights, and ours from the folder it writes."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from transformers import SamConfig, SamModel

        torch.manual_seed(0)
        theirs = SamModel(SamConfig(vision_config=_SIZES[size])).eval()
        # Their own initial weights are so small that every output is zero.
        with torch.no_grad():
            for parameter in theirs.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
        theirs.shared_image_embedding.positional_embedding.data.copy_(
            theirs.prompt_encoder.shared_embedding.positional_embedding
        )
        theirs.save_pretrained(folder)
        return theirs, SAM.from_checkpoint(folder, device="cpu")


def _their_masks(theirs: Any, features: torch.Tensor, points: np.ndarray[Any, Any]) -> Any:
    coords = torch.from_numpy(points)[None, :, None]
    labels = torch.ones(1, len(points), 1, dtype=torch.long)
    return theirs(image_embeddings=features, input_points=coords, input_labels=labels)


def _decode(ours: SAM, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Any:
    return decode_alike(ours, [embedding] * len(prompts), prompts, multimask_output=True)


def _table(title: str, timings: dict[str, Timing], base: str) -> str:
    rows = [f"| {title} | median | min to max | ratio to {base} |", "|---|---|---|---|"]
    for name, timing in timings.items():
        ratio = timings[base].median / timing.median
        spread = f"{timing.fastest:.4f} to {timing.slowest:.4f}"
        rows.append(f"| {name} | {timing.median:.4f} | {spread} | {ratio:.2f}x |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
