"""The stateless model API on a tiny SAM."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nexus.core.errors import EmbeddingError, ImageError, InputError, NexusWarning, PromptError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.cv.sam import SAM
from nexus.models.policy import SAM_POLICY
from tests.models.tiny import TINY_CONVOLUTIONAL, TINY_POLICY, tiny_sam


@pytest.fixture(scope="module")
def sam() -> SAM:
    return tiny_sam()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def embedding(sam: SAM, image: np.ndarray) -> ImageEmbedding:
    return sam.encode_image(image)


def test_the_tiny_model_is_tiny(sam: SAM) -> None:
    """It has the size the tests count on."""
    assert sum(p.numel() for p in sam.parameters()) == 32_821


def test_masks_come_back_in_original_pixels(sam: SAM, embedding: ImageEmbedding) -> None:
    """Bool masks of the image's size, with scores and low-resolution logits."""
    masks = sam.predict(image_embedding=embedding, prompt=(30, 20))

    assert masks.masks.shape == (3, 60, 90)
    assert masks.masks.dtype == np.bool_
    assert masks.iou_scores.shape == (3,)
    assert masks.low_res_logits.shape == (3, 16, 16)
    assert masks.low_res_logits.dtype == np.float32


@pytest.mark.filterwarnings("ignore:all points are background")
def test_one_or_three_masks(sam: SAM, embedding: ImageEmbedding) -> None:
    """None gives three masks for a single foreground point alone, else one."""
    ambiguous = Prompt([[5, 5]], [1])
    clear = [
        Prompt([[5, 5]], [0]),
        Prompt([[5, 5], [9, 9]]),
        Prompt(box=[1, 1, 9, 9]),
        Prompt([[5, 5]], box=[1, 1, 9, 9]),
        Prompt([[5, 5]], mask=np.zeros((16, 16), np.float32)),
    ]

    assert len(sam.predict_with_embedding(embedding, ambiguous)) == 3
    assert [len(m) for m in sam.predict_batch(embedding, clear)] == [1] * 5
    assert len(sam.predict_with_embedding(embedding, clear[2], multimask_output=True)) == 3
    assert len(sam.predict_with_embedding(embedding, ambiguous, multimask_output=False)) == 1


def test_every_spelling_of_a_prompt_gives_the_same_masks(
    sam: SAM, embedding: ImageEmbedding, image: np.ndarray
) -> None:
    """Prompt, dict, pair, array, tensor; predict with an image or its embedding."""
    spellings = [
        (30, 20),
        [30, 20],
        np.array([30, 20]),
        torch.tensor([30.0, 20.0]),
        {"point": [30, 20]},
        {"point": np.array([[30, 20]]), "label": np.array([1])},
        {"points": [[30, 20]], "labels": [1]},
        Prompt(points=[[30, 20]], labels=[1]),
    ]
    expected = sam.predict(image=image, prompt=spellings[0])

    for spelling in spellings:
        masks = sam.predict(image_embedding=embedding, prompt=spelling)
        np.testing.assert_array_equal(masks.low_res_logits, expected.low_res_logits)


def test_a_batch_of_mixed_prompts_equals_single_predictions(
    sam: SAM, embedding: ImageEmbedding
) -> None:
    """64 prompts of every kind and length, in input order."""
    prompts = mixed_prompts(64, (60, 90), (16, 16))
    batch = sam.predict_batch(embedding, prompts)

    assert len(batch) == 64
    for prompt, masks in zip(prompts, batch, strict=True):
        single = sam.predict(image_embedding=embedding, prompt=prompt)
        np.testing.assert_allclose(masks.low_res_logits, single.low_res_logits, atol=1e-4)
        np.testing.assert_allclose(masks.iou_scores, single.iou_scores, atol=1e-4)
        assert masks.masks.shape == single.masks.shape


def mixed_prompts(count: int, size_hw: tuple[int, int], mask_hw: tuple[int, int]) -> list[Prompt]:
    """Draw prompts of every kind: points, boxes, masks and their mixtures."""
    rng = np.random.default_rng(3)
    prompts = []
    for index in range(count):
        points = rng.uniform(0, 1, (index % 4 + 1, 2)) * size_hw[::-1]
        labels = rng.integers(0, 2, len(points))
        corner = rng.uniform(0, 0.5, 2) * size_hw[::-1]
        box = [*corner, *(corner + rng.uniform(2, 0.4 * min(size_hw), 2))]
        mask = rng.normal(0, 5, mask_hw).astype(np.float32)
        kinds = [
            {"points": points, "labels": labels},
            {"box": box},
            {"points": points, "labels": labels, "box": box},
            {"points": points, "labels": labels, "mask": mask},
            {"mask": mask},
        ]
        prompts.append(Prompt(**kinds[index % 5]))
    return prompts


def test_prompts_and_images_come_as_lists_arrays_and_generators(
    sam: SAM, embedding: ImageEmbedding, image: np.ndarray
) -> None:
    """All give the same masks; one bare prompt, one image, an open file and a set do not."""
    boxes = np.array([[1, 1, 30, 30], [5, 5, 40, 50]])
    spellings = [boxes, boxes.tolist(), torch.tensor(boxes), (box for box in boxes), iter(boxes)]
    wanted, *others = [sam.predict_batch(embedding, given) for given in spellings]
    encoded, *alike = [
        sam.encode_images(images)
        for images in ([image, image], np.stack([image] * 2), (image for _ in range(2)))
    ]

    for masks in others:
        for one, same in zip(masks, wanted, strict=True):
            np.testing.assert_array_equal(one.low_res_logits, same.low_res_logits)
    for embeddings in alike:
        torch.testing.assert_close(embeddings[1].features, encoded[1].features, rtol=0, atol=0)
    for bare in (boxes[0], [1, 1, 30, 30], (n for n in (5, 5)), {(5, 5)}, {"point": (5, 5)}):
        with pytest.raises(PromptError, match="expected a sequence of prompts, got"):
            sam.predict_batch(embedding, bare)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a list of images, got BytesIO"):
        sam.encode_images(io.BytesIO())  # type: ignore[arg-type]


def test_an_open_file_is_an_image(sam: SAM, image: np.ndarray) -> None:
    """A picture in memory encodes as its array does."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")

    features = sam.encode_image(file).features
    torch.testing.assert_close(features, sam.encode_image(image).features, rtol=0, atol=0)


def test_clicks_that_are_all_background_give_a_note(image: np.ndarray) -> None:
    """On each such result, unless a box, a mask or a click says more; the model warns once."""
    sam = tiny_sam()
    embedding = sam.encode_image(image)
    beside = Prompt([[5, 5], [9, 9]], [0, 0])
    clear = [
        Prompt([[5, 5]], [0], box=[1, 1, 9, 9]),
        Prompt([[5, 5], [9, 9]], [0, 1]),
        Prompt([[5, 5]], [0], mask=np.zeros((16, 16), np.float32)),
        Prompt(box=[1, 1, 9, 9]),
    ]
    with pytest.warns(NexusWarning, match="all points are background.*give a point on it"):
        first = sam.predict_batch(embedding, [beside, *clear])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = sam.predict_with_embedding(embedding, beside)

    assert [len(masks.notes) for masks in first] == [1, 0, 0, 0, 0]
    assert again.notes == first[0].notes


def test_no_prompts_give_no_masks(sam: SAM, embedding: ImageEmbedding) -> None:
    """An empty list is answered with an empty list."""
    assert sam.predict_batch(embedding, []) == []
    assert sam.encode_images([]) == []


def test_the_spelling_of_the_encoder(sam: SAM, image: np.ndarray, tmp_path: Path) -> None:
    """`image_encoder(image)` gives an embedding for a raw image, features for a 4-D batch."""
    Image.fromarray(image).save(tmp_path / "image.png")
    from_array = sam.image_encoder(image)
    from_path = sam.image_encoder(tmp_path / "image.png")
    features = sam.image_encoder(torch.zeros(2, 3, 64, 64))

    assert torch.equal(from_array.features, sam.encode_image(image).features)
    assert torch.equal(from_path.features, from_array.features)
    assert features.shape == (2, 16, 4, 4)
    assert features.requires_grad
    assert not from_array.features.requires_grad


def test_images_encode_in_a_batch(sam: SAM, image: np.ndarray) -> None:
    """Images of different sizes go through the encoder together."""
    turned = np.ascontiguousarray(image.transpose(1, 0, 2))
    batch = sam.encode_images([image, turned])

    assert [e.original_size_hw for e in batch] == [(60, 90), (90, 60)]
    for one, single in zip(batch, (image, turned), strict=True):
        torch.testing.assert_close(one.features, sam.encode_image(single).features)
        assert one.features.untyped_storage().nbytes() == one.nbytes


@pytest.mark.parametrize("side", [32, 96])
def test_another_input_side(sam: SAM, image: np.ndarray, side: int) -> None:
    """Positions, feature sizes and mask sizes follow the input side of the call."""
    for model in (sam, tiny_sam(config=TINY_CONVOLUTIONAL)):
        embedding = model.encode_image(image, input_side=side)
        masks = model.predict(image_embedding=embedding, prompt=(30, 20))

        assert embedding.features.shape == (16, side // 16, side // 16)
        assert masks.low_res_logits.shape == (3, side // 4, side // 4)
        assert masks.masks.shape == (3, 60, 90)


def test_low_res_logits_go_back_in_as_a_mask(sam: SAM, embedding: ImageEmbedding) -> None:
    """A result refines the next one, and changes it."""
    first = sam.predict(image_embedding=embedding, prompt=(30, 20))
    refined = sam.predict(
        image_embedding=embedding, prompt=Prompt([[30, 20]], mask=first.best_low_res_logits)
    )
    plain = sam.predict(image_embedding=embedding, prompt=(30, 20), multimask_output=False)

    assert not np.array_equal(refined.low_res_logits, plain.low_res_logits)


def test_a_bool_mask_of_the_image_is_a_prompt(sam: SAM, embedding: ImageEmbedding) -> None:
    """A rough mask in original pixels needs no conversion by the caller."""
    mask = np.zeros((60, 90), bool)
    mask[10:30, 20:50] = True

    assert sam.predict(image_embedding=embedding, prompt={"mask": mask}).masks.shape == (1, 60, 90)


def test_eight_threads_give_the_bits_of_one(sam: SAM) -> None:
    """One model, eight threads, different images and prompts: bit-equal to serial."""
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (40 + i, 80 - i, 3), dtype=np.uint8) for i in range(24)]

    def work(index: int) -> np.ndarray:
        return sam.predict(image=images[index], prompt=(index, index + 1)).low_res_logits

    serial = [work(i) for i in range(len(images))]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(work, range(len(images))))

    for one, other in zip(serial, threaded, strict=True):
        assert one.tobytes() == other.tobytes()


def test_an_embedding_travels_to_another_process(
    sam: SAM, embedding: ImageEmbedding, tmp_path: Path
) -> None:
    """Saved here, loaded there, the same masks come out."""
    embedding.save(tmp_path / "image.safetensors")
    here = sam.predict(image_embedding=embedding, prompt=(30, 20))
    program = (
        "import sys, numpy as np\n"
        "from tests.models.tiny import tiny_sam\n"
        "from nexus.core.types import ImageEmbedding\n"
        "sam = tiny_sam()\n"
        "embedding = ImageEmbedding.load(sys.argv[1], sam)\n"
        "masks = sam.predict(image_embedding=embedding, prompt=(30, 20))\n"
        "np.savez(sys.argv[2], masks=masks.masks, logits=masks.low_res_logits)\n"
    )
    root = Path(__file__).parents[2]
    arguments = [str(tmp_path / "image.safetensors"), str(tmp_path / "there.npz")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=root)
    there = np.load(tmp_path / "there.npz")

    np.testing.assert_array_equal(there["masks"], here.masks)
    np.testing.assert_array_equal(there["logits"], here.low_res_logits)


def test_an_embedding_pickles(sam: SAM, embedding: ImageEmbedding) -> None:
    """Pickled and back, it predicts the same."""
    copied = pickle.loads(pickle.dumps(embedding))

    expected = sam.predict(image_embedding=embedding, prompt=(30, 20))
    masks = sam.predict(image_embedding=copied, prompt=(30, 20))
    np.testing.assert_array_equal(masks.low_res_logits, expected.low_res_logits)


def test_an_embedding_of_other_weights_is_refused(
    embedding: ImageEmbedding, tmp_path: Path
) -> None:
    """By predict and by load, whether the variant or only the weights or the policy differ."""
    other_weights, other_name = tiny_sam(seed=1), tiny_sam(variant="another")
    other_policy = tiny_sam()
    other_policy.policy = dataclasses.replace(TINY_POLICY, normalize="min_max")
    embedding.save(tmp_path / "e.safetensors")

    for model in (other_weights, other_policy):
        with pytest.raises(EmbeddingError, match="other encoder weights or another preprocessing"):
            model.predict(image_embedding=embedding, prompt=(1, 1))
        with pytest.raises(EmbeddingError, match="hint: encode the image again"):
            ImageEmbedding.load(tmp_path / "e.safetensors", model)
    with pytest.raises(EmbeddingError, match="made by another, got one made by tiny"):
        other_name.predict(image_embedding=embedding, prompt=(1, 1))


def test_training_the_encoder_outdates_its_embeddings(image: np.ndarray) -> None:
    """A step of an optimiser changes the fingerprint; training the decoder does not."""
    model = tiny_sam()
    embedding = model.encode_image(image)
    with torch.no_grad():
        next(model.mask_decoder.parameters()).add_(1)
    model.check_embedding(embedding)
    with torch.no_grad():
        for parameter in model.image_encoder.parameters():
            parameter.add_(0.5)

    with pytest.raises(EmbeddingError, match="other encoder weights"):
        model.check_embedding(embedding)


def test_number_formats_share_embeddings(image: np.ndarray) -> None:
    """A bfloat16 copy of a model accepts the embeddings of the float32 one, and predicts."""
    model = tiny_sam()
    embedding = model.encode_image(image)
    half = tiny_sam().to(torch.bfloat16)
    masks = half.predict(image_embedding=embedding, prompt=(30, 20))

    assert masks.low_res_logits.dtype == np.float32
    assert half.encode_image(image).features.dtype == torch.bfloat16


def test_a_copied_model_stands_on_its_own(image: np.ndarray) -> None:
    """A deep copy keeps its own policy, and so does its encoder."""
    model = tiny_sam()
    twin = copy.deepcopy(model)
    twin.policy = dataclasses.replace(TINY_POLICY, input_side=96)

    assert twin.image_encoder(image).geometry.input_side == 96
    assert model.image_encoder(image).geometry.input_side == 64


def test_box_only_weights_warn_once_and_say_so(image: np.ndarray) -> None:
    """The first point prompt warns; every result of one carries a note, results of boxes none."""
    model = tiny_sam(policy=dataclasses.replace(TINY_POLICY, box_only=True))
    embedding = model.encode_image(image)
    with pytest.warns(NexusWarning, match="trained on box prompts alone"):
        first = model.predict(image_embedding=embedding, prompt=(30, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = model.predict(image_embedding=embedding, prompt=(30, 20))
        boxed = model.predict(image_embedding=embedding, prompt=(3, 2, 30, 20))

    assert "trained on box prompts alone" in first.notes[0]
    assert second.notes == first.notes
    assert boxed.notes == ()


def test_wrong_calls_are_refused(sam: SAM, embedding: ImageEmbedding, image: np.ndarray) -> None:
    """Each message says what was expected and what came."""
    with pytest.raises(InputError, match="either image or image_embedding, got neither"):
        sam.predict(prompt=(1, 1))
    with pytest.raises(InputError, match="either image or image_embedding, got both"):
        sam.predict(image=image, image_embedding=embedding, prompt=(1, 1))
    with pytest.raises(PromptError, match="expected a prompt, got None"):
        sam.predict(image=image)
    with pytest.raises(InputError, match="expected an ImageEmbedding, got ndarray"):
        sam.predict_batch(image, [(1, 1)])  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="sequence of prompts, got Prompt"):
        sam.predict_batch(embedding, Prompt([[1, 1]]))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="prompt 1: expected points inside the image"):
        sam.predict_batch(embedding, [(1, 1), (1, 61)])
    with pytest.raises(PromptError, match=r"logits of shape \(16, 16\), got \(3, 3\)"):
        sam.predict(image_embedding=embedding, prompt={"mask": np.zeros((3, 3), np.float32)})
    with pytest.raises(ImageError, match="max_pixels"):
        sam.encode_image(image, max_pixels=10)
    with pytest.raises(InputError, match="multiple of 16"):
        sam.encode_image(image, input_side=100)
    with pytest.raises(InputError, match="a batch of images.*(.|\n)*encode_image"):
        sam.encode_images(image)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="list of images, got str"):
        sam.encode_images("image.png")
    with pytest.raises(InputError, match="True, False or None, got 'yes'"):
        sam.predict(image=image, prompt=(1, 1), multimask_output="yes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a Policy, got str"):
        sam.policy = "square"  # type: ignore[assignment]
    assert sam.policy == dataclasses.replace(SAM_POLICY, input_side=64)


def test_batches_tell_how_far_they_are(sam: SAM, image: np.ndarray) -> None:
    """`progress` gets steps done and steps in all; embeddings and masks are what they are else."""
    told: list[tuple[int, int]] = []
    images = [image] * 5
    watched = sam.encode_images(images, progress=lambda *seen: told.append(seen))
    alone = sam.encode_images(images)
    prompts = [(10 + x, 20) for x in range(6)]
    answers = sam.predict_batch(alone[0], prompts, progress=lambda *seen: told.append(seen))

    assert told[:2] == [(4, 5), (5, 5)]
    assert told[-1] == (6, 6)
    assert len(watched) == 5
    for mine, other in zip(watched, alone, strict=True):
        assert torch.allclose(mine.features, other.features, atol=1e-5)
    for mine, other in zip(answers, sam.predict_batch(alone[0], prompts), strict=True):
        assert np.array_equal(mine.masks, other.masks)


def test_what_a_model_does_is_logged(
    sam: SAM, image: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """Encoding and decoding leave records below WARNING, under the name of the package."""
    with caplog.at_level("DEBUG", logger="nexus"):
        sam.predict(image, (10, 20))

    assert [record.name.split(".")[0] for record in caplog.records] == ["nexus", "nexus"]
    assert "prepared 1 image in " in caplog.messages[0]
    assert caplog.messages[1].startswith("decoding 1 prompt alike, ")
