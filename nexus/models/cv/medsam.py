"""MedSAM and LiteMedSAM: SAM's architecture under the policies of medical images.

Follows "Segment Anything in Medical Images" (arXiv 2304.12306) and the official MedSAM code. There
is nothing here but a choice of names: the weights' policies are data in the table of models.
"""

from __future__ import annotations

from nexus.models.cv.sam import SAM


class MedSAM(SAM):
    """MedSAM and LiteMedSAM: box prompts in, masks of medical images out.

    Examples:
        medsam = MedSAM.from_pretrained("lite_medsam")
        masks = medsam.predict(image="scan.png", prompt=(x0, y0, x1, y1))
    """

    families = ("medsam",)
