"""A model that holds weights and a policy and answers prompts, and remembers nothing else.

Every promptable image model of Nexus is this class with its own encoder and decoder. No method
keeps an image, so that one model serves any number of threads and images at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nexus.core.errors import EmbeddingError, InputError, NexusError, NexusWarning, PromptError
from nexus.core.types import ImageEmbedding, Masks, Prompt, PromptLike
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike, load_image
from nexus.models.frame import (
    FramePrompts,
    image_to_frame,
    masks_to_original,
    prompts_to_frame,
    token_count,
    with_input_side,
)
from nexus.models.policy import Policy
from nexus.nn.encoder import ImageEncoder

# Prompts decoded together: on a CPU as many as keep their L x C maps in the cache.
_CPU_CHUNK, _ACCELERATOR_CHUNK = 2, 64
_ENCODING_FIELDS = (
    "resize",
    "interpolation",
    "resize_as",
    "normalize",
    "pixel_mean",
    "pixel_std",
    "box_scale",
)
_BOX_ONLY_NOTE = (
    "{variant} was trained on box prompts alone; a prompt with points or without a box is "
    "answered, but its mask means little"
)


@dataclass
class Frontend:
    """What stands before an encoder: the policy, and the name embeddings are signed with.

    The encoder holds it too, so that `model.image_encoder(image)` takes raw images.
    """

    variant: str
    policy: Policy

    def __call__(self, encoder: ImageEncoder, image: ImageLike) -> ImageEmbedding:
        """Encode one raw image."""
        return self.encode(encoder, [image])[0]

    def encode(
        self,
        encoder: ImageEncoder,
        images: Sequence[ImageLike],
        input_side: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
    ) -> list[ImageEmbedding]:
        """Encode raw images in one batch, for good: nothing is learnt through it."""
        with torch.no_grad():
            return self.embed(encoder, images, input_side, max_pixels)

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
        frames, geometries = [], []
        for image in images:
            frame, geometry = image_to_frame(load_image(image, max_pixels=max_pixels), policy)
            frames.append(frame)
            geometries.append(geometry)
        maps = self.features(encoder, torch.stack(frames).to(weight.device, weight.dtype))
        fingerprint = self.fingerprint(encoder)
        return [
            ImageEmbedding(
                _row(maps[0], index),
                geometry,
                self.variant,
                fingerprint,
                tuple(_row(finer, index) for finer in maps[1:]),
            )
            for index, geometry in enumerate(geometries)
        ]

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


class PromptableModel(nn.Module):
    """A promptable image model: encode an image once, then answer any number of prompts.

    Attributes:
        variant: Its name in the table of models, or what its checkpoint says it is.
        policy: How images enter and masks leave; assign another `Policy` to override it.
    """

    def __init__(self, image_encoder: ImageEncoder, frontend: Frontend) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.frontend = frontend
        image_encoder.raw_image_encoder = frontend
        self._warned = False

    def image_positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """Return the position code of a feature grid, (1, C, gh, gw)."""
        raise NexusError(f"expected a model that decodes prompts, got {type(self).__name__}")

    def decode_maps(
        self,
        maps: Sequence[Tensor],
        input_side: int,
        image_pe: Tensor,
        prompts: FramePrompts,
        several: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode P prompts in the model frame, each on the features of an image of its own.

        Args:
            maps: (P, C, gh, gw) features, then finer maps where there are any; each may be
                (1, ...) for one image that all prompts share.
            input_side: Side of the model frame, pixels.
            image_pe: (1, C, gh, gw), as `image_positions` gives it.
            prompts: In the model frame, alike in length and kind.
            several: The M candidates, or one mask.

        Returns:
            Logits (P, M, 4 gh, 4 gw) and scores (P, M).
        """
        raise NexusError(f"expected a model that decodes prompts, got {type(self).__name__}")

    def decode(
        self, embedding: ImageEmbedding, image_pe: Tensor, prompts: FramePrompts, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Decode prompts on one image; results as in `decode_maps`."""
        maps = [m.unsqueeze(0) for m in (embedding.features, *embedding.high_res_features)]
        return self.decode_maps(maps, embedding.geometry.input_side, image_pe, prompts, several)

    def forward(
        self,
        images: Sequence[ImageLike] | Sequence[ImageEmbedding] | Tensor,
        prompts: Any,
        multimask_output: bool | None = None,
        return_scores: bool = False,
    ) -> Any:
        """Draw masks to learn from, with gradients; see `nexus.models.forward.forward_images`."""
        from nexus.models.forward import forward_images

        return forward_images(self, images, prompts, multimask_output, return_scores)

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.frontend.variant

    @property
    def policy(self) -> Policy:
        """How images enter and masks leave."""
        return self.frontend.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        if not isinstance(policy, Policy):
            raise InputError(f"expected a Policy, got {type(policy).__name__}")
        self.frontend.policy = policy

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def encode_image(
        self,
        image: ImageLike,
        *,
        input_side: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
    ) -> ImageEmbedding:
        """Encode one image.

        Args:
            image: Path, encoded bytes, PIL image (EXIF rotation is applied), HWC or HW array, or
                CHW tensor; uint8, uint16, or float in [0, 1].
            input_side: Side of the model frame, a multiple of 16; None takes the policy's.
            max_pixels: Refuse larger images before decoding them; None accepts any.

        Raises:
            ImageError: The image cannot be read or used.
            InputError: An input side the model cannot have.
        """
        return self.encode_images([image], input_side=input_side, max_pixels=max_pixels)[0]

    def encode_images(
        self,
        images: Sequence[ImageLike],
        *,
        input_side: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
    ) -> list[ImageEmbedding]:
        """Encode several images in one batch; arguments and errors as in `encode_image`."""
        if isinstance(images, str | bytes) or not isinstance(images, Sequence):
            raise InputError(
                f"expected a list of images, got {type(images).__name__}",
                hint="for one image call encode_image(image)",
            )
        if not images:
            return []
        return self.frontend.encode(self.image_encoder, images, input_side, max_pixels)

    def predict(
        self,
        image: ImageLike | None = None,
        prompt: PromptLike | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        multimask_output: bool | None = None,
    ) -> Masks:
        """Segment the object a prompt points at.

        Args:
            image: The image, encoded for this call alone; or
            image_embedding: what `encode_image` returned for it.
            prompt: A `Prompt`, a mapping, an (x, y) point or an (x0, y0, x1, y1) box, in pixels of
                the original image.
            multimask_output: Return the three candidates, or one mask. None means three for a
                single foreground point alone, which is ambiguous, and one otherwise.

        Raises:
            InputError: Neither or both of image and image_embedding.
            PromptError: The prompt is malformed or does not fit the image.
            EmbeddingError: The embedding was made by another model.
        """
        parsed = Prompt.of(prompt)
        if image_embedding is None:
            if image is None:
                raise InputError("expected either image or image_embedding, got neither")
            image_embedding = self.encode_image(image)
        elif image is not None:
            raise InputError("expected either image or image_embedding, got both")
        return self.predict_batch(image_embedding, [parsed], multimask_output)[0]

    def predict_with_embedding(
        self,
        image_embedding: ImageEmbedding,
        prompt: PromptLike,
        multimask_output: bool | None = None,
    ) -> Masks:
        """Answer one prompt on an encoded image; see `predict`."""
        return self.predict(
            image_embedding=image_embedding, prompt=prompt, multimask_output=multimask_output
        )

    def predict_batch(
        self,
        image_embedding: ImageEmbedding,
        prompts: Sequence[PromptLike],
        multimask_output: bool | None = None,
    ) -> list[Masks]:
        """Answer many prompts on one encoded image, each for an object of its own.

        Prompts may differ in kind and length; those alike are decoded together, a few at a time.

        Args:
            image_embedding: What `encode_image` returned.
            prompts: As in `predict`.
            multimask_output: As in `predict`, for each prompt.

        Returns:
            One `Masks` per prompt, in the order of `prompts`.

        Raises:
            PromptError: A prompt is malformed or does not fit the image; its index is named.
            EmbeddingError: The embedding was made by another model.
        """
        if multimask_output not in (None, True, False):
            raise InputError(
                f"expected multimask_output to be True, False or None, got {multimask_output!r}"
            )
        self.check_embedding(image_embedding)
        parsed = self._parse(prompts, image_embedding)
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for index, prompt in enumerate(parsed):
            several = (
                is_ambiguous(prompt, self.policy) if multimask_output is None else multimask_output
            )
            key = (token_count(prompt, self.policy), prompt.mask is not None, bool(several))
            groups.setdefault(key, []).append(index)
        results: dict[int, Masks] = {}
        chunk = _CPU_CHUNK if self.device.type == "cpu" else _ACCELERATOR_CHUNK
        with torch.no_grad():
            embedding = image_embedding.to(self.device)
            image_pe = self.image_positions(_grid(embedding))
            for (_, _, several), members in groups.items():
                for start in range(0, len(members), chunk):
                    part = members[start : start + chunk]
                    masks = self._predict_alike(
                        embedding, image_pe, [parsed[i] for i in part], several
                    )
                    results.update(zip(part, masks, strict=True))
        return [results[index] for index in range(len(parsed))]

    def check_embedding(self, embedding: ImageEmbedding) -> None:
        """Refuse an embedding another model, or this one under another policy, made.

        Raises:
            EmbeddingError: It did.
        """
        if not isinstance(embedding, ImageEmbedding):
            raise InputError(
                f"expected an ImageEmbedding, got {type(embedding).__name__}",
                hint="encode the image first: embedding = model.encode_image(image)",
            )
        if embedding.model != self.variant:
            raise EmbeddingError(
                f"expected an image embedding made by {self.variant}, "
                f"got one made by {embedding.model}",
                hint="encode the image with the model that is to predict",
            )
        if embedding.fingerprint != self.frontend.fingerprint(self.image_encoder):
            raise EmbeddingError(
                f"expected an image embedding made by this {self.variant}, got one made with "
                "other encoder weights or another preprocessing policy",
                hint="encode the image again with this model",
            )

    def _parse(self, prompts: Sequence[PromptLike], embedding: ImageEmbedding) -> list[Prompt]:
        if isinstance(prompts, Prompt) or not isinstance(prompts, Sequence | np.ndarray):
            raise PromptError(
                f"expected a sequence of prompts, got {type(prompts).__name__}",
                hint="for one prompt call predict(image_embedding=..., prompt=...)",
            )
        parsed = []
        for index, prompt in enumerate(prompts):
            try:
                one = Prompt.of(prompt)
                one.check_within(embedding.original_size_hw)
            except PromptError as error:
                if len(prompts) == 1:
                    raise
                raise PromptError(f"prompt {index}: {error.message}", error.hint) from error
            parsed.append(one)
        return parsed

    def _predict_alike(
        self, embedding: ImageEmbedding, image_pe: Tensor, prompts: list[Prompt], several: bool
    ) -> list[Masks]:
        """Answer prompts that can share a batch."""
        gh, gw = _grid(embedding)
        frame = prompts_to_frame(prompts, embedding.geometry, (4 * gh, 4 * gw), self.policy)
        logits, scores = self.decode(embedding, image_pe, to_device(frame, self.device), several)
        logits, scores = logits.float(), scores.float()
        limit = self.policy.logit_limit
        given = logits if limit is None else logits.clamp(-limit, limit)
        return [
            Masks(
                masks_to_original(logits[p], embedding.geometry, self.policy),
                scores[p].cpu().numpy(),
                given[p].cpu().numpy().copy(),
                self.notes_on(prompt),
            )
            for p, prompt in enumerate(prompts)
        ]

    def notes_on(self, prompt: Prompt) -> tuple[str, ...]:
        """Say what is weak about an answer to `prompt`, and warn the first time."""
        if not self.policy.box_only or (prompt.box is not None and prompt.points is None):
            return ()
        note = _BOX_ONLY_NOTE.format(variant=self.variant)
        if not self._warned:
            self._warned = True
            warnings.warn(note, NexusWarning, stacklevel=5)
        return (note,)


def is_ambiguous(prompt: Prompt, policy: Policy) -> bool:
    """Tell whether a prompt is a single foreground point alone, and candidates were trained."""
    return (
        policy.candidates
        and prompt.box is None
        and prompt.mask is None
        and prompt.labels is not None
        and prompt.labels.tolist() == [1]
    )


def _grid(embedding: ImageEmbedding) -> tuple[int, int]:
    return embedding.features.shape[-2], embedding.features.shape[-1]


def _row(features: Tensor, index: int) -> Tensor:
    """Take one image's map, copied if need be, lest it keep its neighbours alive."""
    return features[0] if len(features) == 1 else features[index].clone()


def to_device(prompts: FramePrompts, device: torch.device) -> FramePrompts:
    """Return prompts on `device`."""
    return dataclasses.replace(
        prompts,
        point_coords=prompts.point_coords.to(device),
        point_labels=prompts.point_labels.to(device),
        mask_input=None if prompts.mask_input is None else prompts.mask_input.to(device),
    )
