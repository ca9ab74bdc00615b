"""Fine-tune the mask decoder of a SAM on images and label maps, on one page and in plain torch.

    python -m examples.fine_tune.train FOLDER --out tuned.safetensors

FOLDER has images/ and masks/ with the same stems. `nexus train` does the same with held-out
figures, several rounds of clicks, a cache on disk, checkpoints and a card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from nexus.cli.main import run_script
from nexus.core.types import Prompt
from nexus.data.clicks.sampling import centre_click, jittered_box
from nexus.data.truth import open_images
from nexus.models.cv import load_model
from nexus.train.freezing import freeze
from nexus.train.losses import bce_loss, dice_loss, truths_to_frame
from nexus.train.weights import save_checkpoint

ROWS, LEARNING_RATE = 4, 1e-4


def fine_tune(folder: Path, out: Path, model: str, steps: int) -> None:
    """Train and write the weights."""
    sam = load_model(model)
    freeze(sam, "prompt_and_decoder")

    # The encoder is frozen, so that every image is encoded once.
    objects = []
    for image in open_images("folder", folder):
        embedding = sam.encode_image(image.load_image())
        gh, gw = embedding.features.shape[-2:]
        for truth in image.load_truths():
            share, valid = truths_to_frame(truth.mask[None], embedding.geometry, (4 * gh, 4 * gw))
            objects.append((embedding, truth, share, valid[None]))

    learning = [weight for weight in sam.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(0)
    for step in range(steps):
        rows = [objects[i] for i in rng.integers(len(objects), size=ROWS)]
        prompts = []
        for embedding, truth, _, _ in rows:
            click, size_hw = centre_click(truth.mask), embedding.original_size_hw
            box = jittered_box(truth.box_xyxy, size_hw, rng)
            prompts.append([Prompt(box=box) if step % 2 else Prompt(points=[(click.x, click.y)])])
        logits = sam([row[0] for row in rows], prompts, multimask_output=False)  # (B, 1, 1, h, w)
        truths, valid = (torch.stack([row[i] for row in rows]).unsqueeze(1) for i in (2, 3))
        loss = dice_loss(logits, truths, valid=valid) + bce_loss(logits, truths, valid=valid)

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {float(loss.detach()):.4f}")
    save_checkpoint(sam, out)


def main() -> None:
    """Read the command line, and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="lite_medsam")
    parser.add_argument("--steps", type=int, default=200)
    fine_tune(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_script(main)
