"""A model that holds weights and a policy and answers prompts, and remembers nothing else.

Every promptable image model of Nexus is this class with its own encoder and decoder. No method
keeps an image, so that one model serves any number of threads and images at once.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nexus.core.errors import EmbeddingError, InputError, NexusError, NexusWarning
from nexus.core.steps import ProgressLike, steps_of
from nexus.core.types import ImageEmbedding, Masks, Prompt, PromptLike
from nexus.core.words import counted
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.calls import (
    Row,
    image_list,
    is_ambiguous,
    kind_of,
    listed_prompts,
    named,
    prompt_lists,
    read_rows,
)
from nexus.models.decoding import Candidates, EncodedImages
from nexus.models.frame import FramePrompts, check_fits, masks_to_original, prompts_to_frame
from nexus.models.frontend import Frontend
from nexus.models.policy import Policy
from nexus.nn.batching import alike, in_parts, prompts_at_once
from nexus.nn.encoder import ImageEncoder

# Images in one call of the encoder where somebody watches.
_WATCHED_BATCH = 4
_LOG = logging.getLogger(__name__)
_BOX_ONLY_NOTE = (
    "{variant} was trained on box prompts alone; a prompt with points or without a box is "
    "answered, but its mask means little"
)
_BACKGROUND_NOTE = (
    "all points are background, which says what the object is not, and not where it is; give a "
    "point on it or a box as well"
)


class PromptableModel(nn.Module):
    """A promptable image model: encode an image once, then answer any number of prompts.

    A subclass brings an encoder and `score`; all that predicts, trains or finds masks goes through
    these two.

    Attributes:
        variant: Its name in the table of models, or what its checkpoint says it is.
        policy: How images enter and masks leave; assign another `Policy` to override it.
        automatic_settings: What automatic masks have otherwise than by default, by name; see
            `nexus.predict.automatic.settings.AutomaticSettings`.
    """

    automatic_settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, image_encoder: ImageEncoder, frontend: Frontend) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.frontend = frontend
        image_encoder.raw_image_encoder = frontend
        self._warned: set[str] = set()

    def score(
        self, images: EncodedImages, prompts: FramePrompts, multimask_output: bool
    ) -> Candidates:
        """Score the mask candidates of P prompts, which are then drawn as far as they are wanted.

        Gradients are neither opened nor forbidden, here and when the candidates are drawn.

        Args:
            images: What each of the P prompts is decoded on, or one image that all share.
            prompts: In the model frame, alike in length and kind, on the model's device.
            multimask_output: The M candidates, or one mask.
        """
        raise NexusError(f"expected a model that decodes prompts, got {type(self).__name__}")

    def _prepare_maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return what `score` finds as `images.maps`: all that depends on the images alone.

        Given are (B, C, gh, gw) features, then finer maps where there are any; returned are
        tensors of B rows, or of one row for all images alike.
        """
        return tuple(maps)

    def prepare(self, embeddings: Sequence[ImageEmbedding]) -> EncodedImages:
        """Make one or more encoded images of one frame size ready for `score`.

        Whose embeddings they are is not checked; see `check_embedding`.

        Raises:
            InputError: Embeddings of different feature grids.
        """
        if len({embedding.features.shape for embedding in embeddings}) != 1:
            raise InputError(
                "expected encoded images of one input side, got feature maps of shapes "
                f"{sorted({tuple(e.features.shape) for e in embeddings})}",
                hint="encode all images with the same input_side",
            )
        layers = zip(*((e.features, *e.high_res_features) for e in embeddings), strict=True)
        maps = [m[0].unsqueeze(0) if len(m) == 1 else torch.stack(m) for m in layers]
        gh, gw = maps[0].shape[-2:]
        return EncodedImages(
            self._prepare_maps([each.to(self.device) for each in maps]),
            tuple(embedding.geometry for embedding in embeddings),
            (4 * gh, 4 * gw),
        )

    def scored(
        self, embeddings: Sequence[ImageEmbedding], rows: Sequence[Row], at_once: int | None = None
    ) -> Iterator[tuple[Sequence[int], Candidates]]:
        """Score the candidates of any questions, those alike together and a few at a time.

        One decoder call takes `at_once` prompts; None takes as many as suit the device. Yielded are
        the places of some rows, and their candidates; each row once.

        Raises:
            PromptError: A prompt does not fit its image; its row is named.
        """
        for row in rows:
            with named(row.name):
                check_fits(row.prompt, embeddings[row.image])
        kinds = [kind_of(row, embeddings[row.image], self.policy) for row in rows]
        for members in alike(kinds):
            shown = list(dict.fromkeys(rows[place].image for place in members))
            images = self.prepare([embeddings[image] for image in shown])
            size = at_once or prompts_at_once(self.device)
            _LOG.debug("decoding %s alike, %d at a time", counted(len(members), "prompt"), size)
            for places in in_parts(members, size):
                part = [rows[place] for place in places]
                own = images.of([shown.index(row.image) for row in part])
                prompts = prompts_to_frame(
                    [row.prompt for row in part],
                    [embeddings[row.image].geometry for row in part],
                    images.mask_size_hw,
                    self.policy,
                )
                *_, multimask_output = kinds[places[0]]
                yield places, self.score(own, prompts.to(self.device), multimask_output)

    def forward(
        self,
        images: Sequence[ImageLike] | Sequence[ImageEmbedding] | Tensor,
        prompts: Any,
        multimask_output: bool | None = None,
        return_scores: bool = False,
    ) -> Any:
        """Draw masks to learn from: float logits at decoder resolution, with gradients.

        Numbers are those `predict` gives as `low_res_logits`, with two differences that only
        prediction makes: logits are not clipped to the policy's `logit_limit`, since a clipped one
        learns nothing; and in training mode SAM 2's single mask stays itself, where prediction may
        put a candidate in its place. Gradients reach every weight, not the pixels of an image:
        preprocessing has none.

        Args:
            images: B images, whatever `encode_image` takes; or a (B, 3, H, W) tensor, uint8 or
                float in [0, 1]; or embeddings made before, which spares a frozen encoder. An
                embedding of an encoder that has learnt since is refused.
            prompts: For each image a list of prompts, each for an object of its own, in original
                pixels, of any kind and mixed; or one bare prompt.
            multimask_output: The M candidates, or one mask. As all prompts of a call share M, None
                means the candidates if every prompt is a single foreground point alone, else one.
            return_scores: Also return the predicted IoU.

        Returns:
            For each image (P, M, h, w) float32 logits of the whole model frame, padding included:
            stacked to (B, P, M, h, w) where all have one shape, else a list. With `return_scores`
            those, then scores (B, P, M) or a list of (P, M).

        Raises:
            InputError: No image, no prompt, or not a list of prompts for each image.
            PromptError: A prompt is malformed or does not fit its image; both are named.
            EmbeddingError: An embedding was made by another model.
        """
        given = image_list(images)
        rows = read_rows(prompt_lists(prompts, len(given)), multimask_output)
        if multimask_output is None:
            same = all(is_ambiguous(row.prompt, self.policy) for row in rows)
            rows = [dataclasses.replace(row, multimask_output=same) for row in rows]
        embeddings = self._embedded(given)
        drawn: dict[int, tuple[Tensor, Tensor]] = {}
        for places, candidates in self.scored(embeddings, rows):
            pairs = zip(candidates.draw_all().float(), candidates.iou_scores.float(), strict=True)
            drawn.update(zip(places, pairs, strict=True))
        logits, scores = [], []
        for image, embedding in enumerate(embeddings):
            gh, gw = embedding.features.shape[-2:]
            mine = [drawn[place] for place, row in enumerate(rows) if row.image == image]
            none = drawn[0][0].new_zeros(0, len(drawn[0][0]), 4 * gh, 4 * gw)
            logits.append(torch.stack([each for each, _ in mine]) if mine else none)
            scores.append(torch.stack([each for _, each in mine]) if mine else none[..., 0, 0])
        return (_stacked(logits), _stacked(scores)) if return_scores else _stacked(logits)

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
            image: Path, encoded bytes, file opened in binary mode, PIL image (EXIF rotation is
                applied), HWC or HW array, or CHW tensor; uint8, uint16, or float in [0, 1].
            input_side: Side of the model frame, a multiple of 16; None takes the policy's.
            max_pixels: Refuse larger images before decoding them; None accepts any.

        Raises:
            ImageError: The image cannot be read or used.
            InputError: An input side the model cannot have.
        """
        return self.encode_images([image], input_side=input_side, max_pixels=max_pixels)[0]

    def encode_images(
        self,
        images: Iterable[ImageLike],
        *,
        input_side: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        progress: ProgressLike = False,
    ) -> list[ImageEmbedding]:
        """Encode several images in one batch; arguments and errors as in `encode_image`.

        They are a list, a generator, or one array or tensor (B, ...) of all. With `progress`, True
        for a line on stderr or a function of images done and images in all, they are encoded four
        at a time; as with any other batch, the last digits may differ.
        """
        given = image_list(images, "for one image call encode_image(image)")
        if not given:
            return []
        size = len(given) if progress is False else _WATCHED_BATCH
        embeddings: list[ImageEmbedding] = []
        with torch.no_grad(), steps_of(progress, len(given), label="encode") as steps:
            for part in in_parts(given, size):
                embeddings += self.frontend.embed(self.image_encoder, part, input_side, max_pixels)
                steps.advance(len(part))
        return embeddings

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
        prompts: Iterable[PromptLike],
        multimask_output: bool | None = None,
        progress: ProgressLike = False,
    ) -> list[Masks]:
        """Answer many prompts on one encoded image, each for an object of its own.

        Prompts may differ in kind and length; those alike are decoded together, a few at a time.

        Args:
            image_embedding: What `encode_image` returned.
            prompts: As in `predict`: a list, a generator, or an array of points (P, 2) or of boxes
                (P, 4).
            multimask_output: As in `predict`, for each prompt.
            progress: Show prompts done on stderr, or a function of prompts done and prompts in all.

        Returns:
            One `Masks` per prompt, in the order of `prompts`.

        Raises:
            PromptError: A prompt is malformed or does not fit the image; its index is named.
            EmbeddingError: The embedding was made by another model.
        """
        self.check_embedding(image_embedding)
        hint = "for one prompt call predict(image_embedding=..., prompt=...)"
        listed = listed_prompts(prompts, "", hint)
        name = "prompt {index}" if len(listed) > 1 else ""
        rows = read_rows([listed], multimask_output, name)
        return self.predict_rows([image_embedding], rows, progress)

    def predict_rows(
        self,
        embeddings: Sequence[ImageEmbedding],
        rows: Sequence[Row],
        progress: ProgressLike = False,
    ) -> list[Masks]:
        """Answer any questions about encoded images of this model, as `predict` does, in order.

        Whose the embeddings are is not checked. `progress` as in `predict_batch`.

        Raises:
            PromptError: A prompt does not fit its image; its row is named.
        """
        answers: dict[int, Masks] = {}
        limit = self.policy.logit_limit
        steps = steps_of(progress, len(rows), label="predict", unit="prompts")
        with torch.no_grad(), steps:
            for places, candidates in self.scored(embeddings, rows):
                logits, scores = candidates.draw_all().float(), candidates.iou_scores.float()
                given = logits if limit is None else logits.clamp(-limit, limit)
                for p, place in enumerate(places):
                    geometry = embeddings[rows[place].image].geometry
                    answers[place] = Masks(
                        masks_to_original(logits[p], geometry, self.policy),
                        scores[p].cpu().numpy(),
                        given[p].cpu().numpy().copy(),
                        self._notes_on(rows[place].prompt),
                    )
                steps.advance(len(places))
        return [answers[place] for place in range(len(rows))]

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

    def _embedded(self, images: list[Any]) -> list[ImageEmbedding]:
        """Encode images with gradients, or check the embeddings a caller already has."""
        ready = [image for image in images if isinstance(image, ImageEmbedding)]
        if not ready:
            return self.frontend.embed(self.image_encoder, images)
        if len(ready) < len(images):
            raise InputError(
                f"expected images or embeddings, got {counted(len(ready), 'embedding')} among "
                f"{len(images)}"
            )
        # What is checked is who made them, which most of a batch have in common.
        for embedding in {(each.model, each.fingerprint): each for each in ready}.values():
            self.check_embedding(embedding)
        return ready

    def _notes_on(self, prompt: Prompt) -> tuple[str, ...]:
        """Say what is weak about an answer to `prompt`, and warn of each thing the first time."""
        notes = []
        if self.policy.box_only and (prompt.box is None or prompt.points is not None):
            notes.append(_BOX_ONLY_NOTE.format(variant=self.variant))
        alone = prompt.box is None and prompt.mask is None
        if alone and prompt.labels is not None and not prompt.labels.any():
            notes.append(_BACKGROUND_NOTE)
        for note in notes:
            if note not in self._warned:
                self._warned.add(note)
                warnings.warn(note, NexusWarning, stacklevel=5)
        return tuple(notes)


def decode_alike(
    model: PromptableModel,
    embeddings: Sequence[ImageEmbedding],
    prompts: Sequence[Prompt],
    multimask_output: bool,
) -> tuple[Tensor, Tensor]:
    """Decode prompt i on embedding i, all in one call of the decoder, with gradients.

    Logits are those of `model(images, prompts)`. That the embeddings are this model's is not
    checked here, since it costs a look at all weights of the encoder: see
    `PromptableModel.check_embedding`.

    The P encoded images are on grids of one size and may repeat; where all are one and the same
    object, its features are not copied. The P prompts are in original pixels, alike in number of
    points, in having a box and in having a mask. `multimask_output`: The M candidates, or one mask.

    Returns:
        Logits (P, M, h, w) of the whole model frame and scores (P, M), float32.

    Raises:
        InputError: No prompt, another number of embeddings, grids of several sizes, or prompts
            that are not alike.
        PromptError: A prompt does not fit its image.
    """
    if not prompts or len(embeddings) != len(prompts):
        raise InputError(
            "expected one embedding for each of 1 or more prompts, "
            f"got {len(embeddings)} and {len(prompts)}"
        )
    # Told apart by being the same object: to compare what they hold takes longer than to use it.
    images = list({id(embedding): embedding for embedding in embeddings}.values())
    places = {id(embedding): place for place, embedding in enumerate(images)}
    rows = [
        Row(places[id(embedding)], prompt, multimask_output, f"prompt {index}")
        for index, (embedding, prompt) in enumerate(zip(embeddings, prompts, strict=True))
    ]
    kinds = {kind_of(row, images[row.image], model.policy) for row in rows}
    if len(kinds) > 1:
        found = "; ".join(
            f"{tokens} tokens {'with' if has_mask else 'without'} a mask on {gh} x {gw} of {side}"
            for (_, gh, gw), side, tokens, has_mask, _ in sorted(kinds)
        )
        raise InputError(
            f"expected prompts alike in tokens, mask and feature grid, got {found}",
            hint="group them first; model(images, prompts) does so by itself",
        )
    ((_, candidates),) = model.scored(images, rows, at_once=len(rows))
    return candidates.draw_all().float(), candidates.iou_scores.float()


def _stacked(maps: list[Tensor]) -> Tensor | list[Tensor]:
    """Stack what is of one shape."""
    return torch.stack(maps) if len({each.shape for each in maps}) == 1 else maps
