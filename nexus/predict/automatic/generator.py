"""Segment everything in an image: masks without a prompt, by the stages of `stages`."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from numpy.typing import ArrayLike

from nexus.core.errors import InputError, NexusWarning
from nexus.core.steps import ProgressLike, steps_of
from nexus.core.types import ImageEmbedding
from nexus.core.words import counted
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike, load_image
from nexus.models.calls import image_list
from nexus.models.promptable import PromptableModel
from nexus.nn.batching import in_parts
from nexus.ops.crops import layered_crops
from nexus.predict.automatic import stages
from nexus.predict.automatic.settings import settings_for

_LOG = logging.getLogger(__name__)
_BOX_ONLY_NOTE = (
    "{variant} was trained on box prompts alone; the masks it finds with a grid of points mean "
    "little"
)


class SAMAutomaticMaskGenerator:
    """Find the masks of everything in an image, with a SAM, MedSAM, SAM 2 or EdgeTAM.

    Args:
        model: The model; it is used by `predict` calls beside this as before.
        settings: The fields of `nexus.predict.automatic.AutomaticSettings`; what is left
            out has the default of the model's family.

    Attributes:
        settings: All of them.
        notes: What makes the masks weaker than they look; empty if nothing does.

    Raises:
        InputError: An unknown setting, or a value out of range.

    Examples:
        generator = SAMAutomaticMaskGenerator(model, points_per_side=16, output_mode="coco_rle")
        records = generator.generate("image.jpg")
    """

    def __init__(self, model: PromptableModel, **settings: Any) -> None:
        if not isinstance(model, PromptableModel):
            raise InputError(
                f"expected a loaded model, got {type(model).__name__}",
                hint="model = load_model('sam_vit_b') from nexus.models.cv",
            )
        self.model = model
        self.settings = settings_for(model, settings)
        self.notes: tuple[str, ...] = ()

    def generate(
        self,
        image: ImageLike,
        *,
        boxes_xyxy: ArrayLike | None = None,
        image_embedding: ImageEmbedding | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        tally: Counter[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Find the masks of one image.

        Args:
            image: Whatever `nexus.data.images.load_image` reads.
            boxes_xyxy: (K, 4) boxes, as a detector gives them, to use as prompts in place of the
                grid of points; each gives one mask, or none if it does not pass the thresholds.
                No crops are taken.
            image_embedding: The image encoded already.
            max_pixels: Refuse larger images before decoding them; None accepts any.
            tally: Added to it are the number of `candidates`, and under the name of each setting
                how many went by it ('crop_edge' for those cut off by a crop).

        Returns:
            One record per mask: `segmentation` (as `output_mode` says), `area` (pixels), `bbox`
            (x, y, width and height between its outermost pixels, as in the originals),
            `predicted_iou`, `point_coords` ([[x, y]]; empty for a box), `stability_score`,
            `crop_box` (x, y, width, height) and, for a box, `box_prompt`. Best first; with crops
            the masks of the smallest crops first.

        Raises:
            ImageError: The image cannot be read or used.
            PromptError: Boxes that are malformed or do not fit the image.
            EmbeddingError: The embedding was made by another model.
            InputError: The embedding is of an image of another size.
        """
        array = load_image(image, max_pixels=max_pixels)
        size_hw = (array.shape[0], array.shape[1])
        if image_embedding is not None and image_embedding.original_size_hw != size_hw:
            raise InputError(
                f"expected an embedding of this image, {size_hw[0]} x {size_hw[1]}, got one of "
                f"{image_embedding.original_size_hw[0]} x {image_embedding.original_size_hw[1]}"
            )
        seeds = None if boxes_xyxy is None else stages.box_seeds(boxes_xyxy, size_hw)
        if seeds is None and self.model.policy.box_only and not self.notes:
            self.notes = (_BOX_ONLY_NOTE.format(variant=self.model.variant),)
            warnings.warn(f"{self.notes[0]}\nhint: pass boxes_xyxy=...", NexusWarning, stacklevel=2)
        settings, embedding = self.settings, image_embedding
        layers = settings.crop_n_layers if seeds is None else 0
        crops = layered_crops(size_hw, layers, settings.crop_overlap_ratio)
        grids = settings.grids()
        found: list[stages.Found] = []
        tally = Counter() if tally is None else tally
        for crop_box, layer in crops:
            x0, y0, x1, y1 = crop_box
            if embedding is None or layer > 0:
                embedding = self.model.encode_image(array[y0:y1, x0:x1], max_pixels=None)
            here = stages.point_seeds(grids[layer], crop_box) if seeds is None else seeds
            crop = stages.Crop(self.model, embedding, crop_box, size_hw, settings, tally)
            found += crop.masks(here)
        if len(crops) > 1:
            before = len(found)
            found = stages.suppress_between_crops(found, settings.crop_nms_thresh)
            tally["crop_nms_thresh"] += before - len(found)
        if settings.min_mask_region_area > 0:
            before, overlap = len(found), max(settings.box_nms_thresh, settings.crop_nms_thresh)
            found = stages.clean_regions(found, settings.min_mask_region_area, overlap)
            tally["min_mask_region_area"] += before - len(found)
        _LOG.debug("%s in %s", counted(len(found), "mask"), counted(len(crops), "crop"))
        return [stages.record_of(mask, settings.output_mode) for mask in found]

    def generate_batch(
        self,
        images: Iterable[ImageLike],
        *,
        encoder_batch: int = 4,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        progress: ProgressLike = False,
    ) -> list[list[dict[str, Any]]]:
        """Return the records of each image, in order; all as in `iterate`."""
        return list(
            self.iterate(
                images, encoder_batch=encoder_batch, max_pixels=max_pixels, progress=progress
            )
        )

    def iterate(
        self,
        images: Iterable[ImageLike],
        *,
        encoder_batch: int = 4,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        progress: ProgressLike = False,
    ) -> Iterator[list[dict[str, Any]]]:
        """Find the masks of several images, several of them encoded in one call.

        Args:
            images: As in `generate`; a list, a generator, or one array or tensor (B, ...) of all.
            encoder_batch: Images in one call of the encoder; memory grows with it.
            max_pixels: As in `generate`.
            progress: Show images done on stderr, or a function of images done and images in all.

        Yields:
            The records of each image, in order.

        Raises:
            ImageError: An image cannot be read or used.
            InputError: An encoder batch below 1.
        """
        if encoder_batch < 1:
            raise InputError(f"expected an encoder batch of at least 1, got {encoder_batch}")
        given = image_list(images, "for one image call generate(image)")
        with steps_of(progress, len(given), label="generate") as steps:
            for members in in_parts(given, encoder_batch):
                part = [load_image(image, max_pixels=max_pixels) for image in members]
                embeddings = self.model.encode_images(part, max_pixels=max_pixels)
                for array, embedding in zip(part, embeddings, strict=True):
                    found = self.generate(array, image_embedding=embedding, max_pixels=max_pixels)
                    steps.advance()
                    yield found
