"""Fine-tune SAM 2 or EdgeTAM on labelled videos; mean J of held-out ones before and after.

Masks of each object's first frame are given, as in semi-supervised video segmentation. The last
quarter of the videos, by name, is held out.

    python -m examples.fine_tune_video.train davis2017 DAVIS --steps 200 --out tuned
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from nexus.data.images.loading import load_image
from nexus.data.truth import READERS, open_videos
from nexus.data.truth.labelled import LabelledVideo
from nexus.eval.metrics import iou
from nexus.models.cv import SAM2, load_model
from nexus.train.video.clip_sampling import ClipSettings
from nexus.train.video.loop import VideoTrainingSettings, fine_tune_video


def mean_j(model: SAM2, videos: Sequence[LabelledVideo]) -> float:
    """Track every object from its first mask; return the mean IoU on the later frames."""
    scores = []
    for video in videos:
        with model.video([load_image(path) for path in video.frames]) as session:
            for object_id, first in video.first_frames.items():
                session.add(first, object_id, mask=video.masks(first)[object_id])
            for frame in session.propagate(start=0):
                if frame.index not in video.annotated:
                    continue
                truth = video.masks(frame.index)
                empty = np.zeros(frame.masks.shape[1:], bool)
                scores += [
                    iou(frame.mask(object_id), truth.get(object_id, empty))
                    for object_id, first in video.first_frames.items()
                    if frame.index > first
                ]
    return float(np.mean(scores))


def main() -> None:
    """Train, and print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "dataset", choices=[name for name, one in READERS.items() if one.kind == "videos"]
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--model", default="sam2.1_hiera_tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    videos = sorted(
        open_videos(args.dataset, args.root, split=args.split), key=lambda video: video.name
    )
    kept = max(1, len(videos) // 4)
    learnt, held_out = videos[:-kept], videos[-kept:]
    model = cast(SAM2, load_model(args.model, args.checkpoint))
    before = mean_j(model, held_out)
    settings = VideoTrainingSettings(steps=args.steps, clips=ClipSettings(frames=args.frames))
    fine_tune_video(model, learnt, settings, args.out, resume=args.resume, progress=True)
    print(f"held-out videos {len(held_out)}, mean J {before:.4f} -> {mean_j(model, held_out):.4f}")


if __name__ == "__main__":
    main()
