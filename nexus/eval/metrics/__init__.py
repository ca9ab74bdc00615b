"""Metrics of masks, videos, volumes, detections and clicking; docs/metrics.md defines each."""

from nexus.eval.metrics.boundary import boundary_f as boundary_f
from nexus.eval.metrics.boundary import boundary_iou as boundary_iou
from nexus.eval.metrics.detection import Detection as Detection
from nexus.eval.metrics.detection import DetectionScores as DetectionScores
from nexus.eval.metrics.detection import average_precision as average_precision
from nexus.eval.metrics.detection import coco_scores as coco_scores
from nexus.eval.metrics.interactive import ClickCount as ClickCount
from nexus.eval.metrics.interactive import clicks_to_reach as clicks_to_reach
from nexus.eval.metrics.interactive import iou_per_click as iou_per_click
from nexus.eval.metrics.interactive import number_of_clicks as number_of_clicks
from nexus.eval.metrics.overlap import dice as dice
from nexus.eval.metrics.overlap import iou as iou
from nexus.eval.metrics.surface import SurfaceDistances as SurfaceDistances
from nexus.eval.metrics.surface import hausdorff95 as hausdorff95
from nexus.eval.metrics.surface import normalised_surface_dice as normalised_surface_dice
from nexus.eval.metrics.surface import surface_distances as surface_distances
from nexus.eval.metrics.video import FrameStatistics as FrameStatistics
from nexus.eval.metrics.video import VideoScores as VideoScores
from nexus.eval.metrics.video import boundary_frames as boundary_frames
from nexus.eval.metrics.video import davis_summary as davis_summary
from nexus.eval.metrics.video import frame_statistics as frame_statistics
from nexus.eval.metrics.video import j_and_f as j_and_f
from nexus.eval.metrics.video import jaccard_frames as jaccard_frames
from nexus.eval.metrics.video import score_label_maps as score_label_maps
from nexus.ops.masks import stability_score as stability_score
