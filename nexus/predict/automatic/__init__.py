"""Automatic masks: everything in an image, without a prompt."""

from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.automatic.settings import AutomaticSettings

__all__ = ["AutomaticSettings", "SAMAutomaticMaskGenerator"]
