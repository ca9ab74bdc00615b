"""EdgeTAM: SAM 2 with a mobile trunk and memories of few tokens.

Follows "EdgeTAM: On-Device Track Anything Model" (arXiv 2501.07256) and the official code. There is
nothing here but a choice of sizes: trunk, perceiver and steps of tracking are shared with SAM 2.
"""

from __future__ import annotations

from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.nn.repvit import RepViTConfig

VARIANTS: dict[str, SAM2Config] = {
    "edgetam": SAM2Config(
        RepViTConfig(), memory_layers=2, latents=256, marks_occlusion=False, times_pointers=False
    )
}


class EdgeTAM(SAM2):
    """EdgeTAM: like `SAM2`, and several times as fast.

    In a video its input side is a multiple of 256.

    Examples:
        edgetam = EdgeTAM.from_pretrained("edgetam")
        masks = edgetam.predict(image="image.jpg", prompt=(x, y))
    """

    families = ("edgetam",)
    variants = VARIANTS
