"""What stands before an image encoder: raw images in, embeddings out."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nexus.core.types import ImageEmbedding
from nexus.core.words import counted
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike, load_image
from nexus.models.frame import image_to_frame, with_input_side
from nexus.models.policy import Policy
from nexus.nn.encoder import ImageEncoder

_LOG = logging.getLogger(__name__)
_ENCODING_FIELDS = (
    "resize",
    "interpolation",
    "resize_as",
    "normalize",
    "pixel_mean",
    "pixel_std",
    "box_scale",
)


@dataclass
class Frontend:
    """What stands before an encoder: the policy, and the name embeddings are signed with.

    The encoder holds it too, so that `model.image_encoder(image)` takes raw images.
    """

    variant: str
    policy: Policy

    @torch.no_grad()
    def __call__(self, encoder: ImageEncoder, image: ImageLike) -> ImageEmbedding:
        """Encode one raw image; nothing is learnt through it."""
        return self.embed(encoder, [image])[0]

    def embed(
        self,
        encoder: ImageEncoder,
        images: Sequence[ImageLike],
        input_side: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
    ) -> list[ImageEmbedding]:
        """Encode raw images in one batch; gradients of the features reach the weights."""
        policy = with_input_side(self.policy, input_side)
        weight = next(encoder.parameters())
        loaded = (load_image(image, max_pixels=max_pixels) for image in images)
        start_s = time.perf_counter()
        frames, geometries = zip(*(image_to_frame(each, policy) for each in loaded), strict=True)
        prepared_s = time.perf_counter()
        maps = self.features(encoder, torch.stack(frames).to(weight.device, weight.dtype))
        if _LOG.isEnabledFor(logging.DEBUG):
            self._log_encoding(weight.device, len(frames), prepared_s - start_s, prepared_s)
        fingerprint = self.fingerprint(encoder)
        embeddings = []
        for index, geometry in enumerate(geometries):
            # A map is copied if need be, lest it keep its neighbours alive.
            features, *finer = (m[0] if len(m) == 1 else m[index].clone() for m in maps)
            signed = self.variant, fingerprint
            embeddings.append(ImageEmbedding(features, geometry, *signed, tuple(finer)))
        return embeddings

    def _log_encoding(
        self, device: torch.device, count: int, prepared_in_s: float, start_s: float
    ) -> None:
        """Say how long images took to prepare and to encode."""
        if device.type == "cuda":  # which works on, if it is not waited for
            torch.cuda.synchronize(device)
        took_s, images = time.perf_counter() - start_s, counted(count, "image")
        _LOG.debug("prepared %s in %.3f s, encoded in %.3f s", images, prepared_in_s, took_s)

    def features(self, encoder: ImageEncoder, batch: Tensor) -> tuple[Tensor, ...]:
        """Return the features of a preprocessed batch, then finer maps where there are any."""
        return (encoder.encode(batch),)

    def fingerprint(self, encoder: nn.Module) -> str:
        """Return a digest of the encoder's weights (sampled) and of how images enter it."""
        digest = hashlib.sha256(self.variant.encode())
        values = {name: getattr(self.policy, name) for name in _ENCODING_FIELDS}
        digest.update(json.dumps(values, sort_keys=True).encode())
        with torch.no_grad():
            # Through bfloat16, so that a model keeps its fingerprint in another number format.
            samples = [p.flatten()[:: max(1, p.numel() // 8)] for p in encoder.parameters()]
            sampled = torch.cat([s.to(torch.bfloat16) for s in samples]).float().cpu()
        digest.update(sampled.numpy().tobytes())
        return digest.hexdigest()[:16]
