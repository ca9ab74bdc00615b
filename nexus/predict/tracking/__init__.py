"""Objects tracked through clips into files: one clip, or a folder of them."""

from nexus.predict.tracking.clip_run import ClipTracks as ClipTracks
from nexus.predict.tracking.clip_run import TrackOptions as TrackOptions
from nexus.predict.tracking.many_clips import TrackResult as TrackResult
from nexus.predict.tracking.many_clips import track_video as track_video
from nexus.predict.tracking.object_prompts import ObjectPrompt as ObjectPrompt
from nexus.predict.tracking.object_prompts import read_prompts as read_prompts
