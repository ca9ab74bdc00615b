"""Metrics of masks, videos, volumes, detections and clicking; docs/metrics.md defines each."""

from nexus.eval.metrics.boundary import boundary_f, boundary_iou
from nexus.eval.metrics.detection import (
    Detection,
    DetectionScores,
    average_precision,
    coco_scores,
)
from nexus.eval.metrics.interactive import (
    ClickCount,
    clicks_to_reach,
    iou_per_click,
    number_of_clicks,
)
from nexus.eval.metrics.overlap import dice, iou
from nexus.eval.metrics.surface import (
    SurfaceDistances,
    hausdorff95,
    normalised_surface_dice,
    surface_distances,
)
from nexus.eval.metrics.video import (
    FrameStatistics,
    VideoScores,
    boundary_frames,
    davis_summary,
    frame_statistics,
    j_and_f,
    jaccard_frames,
    score_label_maps,
)
from nexus.ops.masks import stability_score

__all__ = [
    "ClickCount",
    "Detection",
    "DetectionScores",
    "FrameStatistics",
    "SurfaceDistances",
    "VideoScores",
    "average_precision",
    "boundary_f",
    "boundary_frames",
    "boundary_iou",
    "clicks_to_reach",
    "coco_scores",
    "davis_summary",
    "dice",
    "frame_statistics",
    "hausdorff95",
    "iou",
    "iou_per_click",
    "j_and_f",
    "jaccard_frames",
    "normalised_surface_dice",
    "number_of_clicks",
    "score_label_maps",
    "stability_score",
    "surface_distances",
]
