"""Fine-tune SAM 2 or EdgeTAM on labelled videos; mean J of held-out ones before and after.

Masks of each object's first frame are given, as in semi-supervised video segmentation. The last
quarter of the videos, by name, is held out.

    python -m examples.fine_tune_video.train davis2017 DAVIS --steps 200 --out tuned
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nexus.cli.main import run_script
from nexus.data.truth import READERS, open_videos
from nexus.models.cv import load_model
from nexus.train.loop import fine_tune
from nexus.train.video.clip_sampling import ClipSettings
from nexus.train.video.config import VideoOptimizerSettings, VideoTrainingSettings


def main() -> None:
    """Train, and print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "dataset", choices=[name for name, reader in READERS.items() if reader.kind == "videos"]
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--model", default="sam2.1_hiera_tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    videos = sorted(
        open_videos(args.dataset, args.root, split=args.split), key=lambda video: video.name
    )
    kept = max(1, len(videos) // 4)
    learnt, held_out = videos[:-kept], videos[-kept:]
    settings = VideoTrainingSettings(
        optimizer=VideoOptimizerSettings(steps=args.steps), clips=ClipSettings(frames=args.frames)
    )
    result = fine_tune(
        settings,
        args.out,
        data=(learnt, held_out),
        model=load_model(args.model, args.checkpoint),
    )
    before, after = (figures[0].value for figures in (result.before, result.last))
    print(f"held-out videos {len(held_out)}, mean J {before:.4f} -> {after:.4f}")


if __name__ == "__main__":
    run_script(main)
