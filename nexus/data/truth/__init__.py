"""Datasets with ground truth, each read from the layout its authors publish."""

from nexus.data.truth.labelled import LabelledImage as LabelledImage
from nexus.data.truth.labelled import LabelledVideo as LabelledVideo
from nexus.data.truth.labelled import Truth as Truth
from nexus.data.truth.labelled import held_out_split as held_out_split
from nexus.data.truth.labelled import largest_truths as largest_truths
from nexus.data.truth.readers import READERS as READERS
from nexus.data.truth.readers import Reader as Reader
from nexus.data.truth.readers import open_images as open_images
from nexus.data.truth.readers import open_videos as open_videos
