"""SAM 2 on images, and the steps of tracking, on a tiny model."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nexus.core.errors import EmbeddingError, InputError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.cv.sam2 import SAM2, VARIANTS
from nexus.models.frame import prompts_to_frame
from nexus.models.memory import NO_OBJECT_LOGIT, FrameFeatures, ObjectOutputs, Recall
from tests.models.tiny_sam2 import TINY_SAM2, tiny_sam2

GRID = (4, 4)
LOW = (16, 16)


@pytest.fixture(scope="module", autouse=True)
def _without_gradients() -> Iterator[None]:
    """The parts of a step neither open nor forbid gradients; nothing is learnt here."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    return tiny_sam2()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def embedding(sam2: SAM2, image: np.ndarray) -> ImageEmbedding:
    return sam2.encode_image(image)


@pytest.fixture(scope="module")
def frame(sam2: SAM2, image: np.ndarray) -> FrameFeatures:
    return sam2.frame_features(sam2.encode_frames([image])[0])


@pytest.fixture(scope="module")
def outputs(sam2: SAM2, frame: FrameFeatures) -> ObjectOutputs:
    """Three objects, prompted by a point each."""
    prompts = [Prompt([[10 * k + 5, 20]], [1]) for k in range(3)]
    return decoded(sam2, frame, sam2.without_memory(frame), prompts)


def decoded(
    sam2: SAM2, frame: FrameFeatures, features: torch.Tensor, prompts: list[Prompt]
) -> ObjectOutputs:
    in_frame = prompts_to_frame(prompts, frame.geometry, LOW, sam2.policy)
    return sam2.decode_objects(frame, features, in_frame)


def with_settings(sam2: SAM2, **settings: object) -> SAM2:
    """Return the model under another configuration, its weights shared."""
    model = copy.copy(sam2)
    model.config = dataclasses.replace(sam2.config, **settings)
    return model


def looks_back(sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs) -> list[Recall]:
    """Let three objects look back at one, two and three frames."""
    memory = sam2.encode_memory(frame, outputs.low_res_logits, outputs.object_score_logits, True)
    return [
        Recall(
            tuple(memory[i] for i in range(k + 1)),
            (0, 1, 2)[: k + 1],
            tuple(outputs.object_pointer[i] for i in range(k)),
            tuple(range(1, k + 1)),
        )
        for k in range(3)
    ]


def test_the_tiny_model_is_tiny(sam2: SAM2) -> None:
    """It has the size the tests count on; most of it are widths that no configuration varies."""
    assert sum(p.numel() for p in sam2.parameters()) == 336_214


def test_there_are_eight_variants() -> None:
    """SAM 2 and 2.1 differ by what 2.1 added, the sizes by their trunk."""
    new, old = VARIANTS["sam2.1_hiera_small"], VARIANTS["sam2_hiera_small"]

    assert len(VARIANTS) == 8
    assert (new.marks_occlusion, new.times_pointers) == (True, True)
    assert old == dataclasses.replace(new, marks_occlusion=False, times_pointers=False)


def test_masks_come_back_in_original_pixels(sam2: SAM2, embedding: ImageEmbedding) -> None:
    """As in SAM: bool masks of the image, scores, low-resolution logits."""
    masks = sam2.predict(image_embedding=embedding, prompt=(30, 20))

    assert masks.masks.shape == (3, 60, 90)
    assert masks.low_res_logits.shape == (3, *LOW)
    assert [tuple(m.shape) for m in embedding.high_res_features] == [(2, 16, 16), (4, 8, 8)]


def test_a_batch_equals_single_predictions(sam2: SAM2, embedding: ImageEmbedding) -> None:
    """Points, boxes and masks of different lengths, in one call."""
    prompts = [
        Prompt([[5, 5]], [1]),
        Prompt([[5, 5], [80, 40]], [1, 0]),
        Prompt(box=[10, 10, 50, 40]),
        Prompt([[20, 20]], [0], box=[10, 10, 50, 40]),
        Prompt(mask=np.random.default_rng(1).normal(size=LOW).astype(np.float32)),
        *(Prompt([[k, k]], [1]) for k in range(1, 8)),
    ]
    together = sam2.predict_batch(embedding, prompts)

    for prompt, batched in zip(prompts, together, strict=True):
        single = sam2.predict_with_embedding(embedding, prompt)
        np.testing.assert_allclose(batched.low_res_logits, single.low_res_logits, rtol=0, atol=1e-4)


def test_a_box_has_a_padding_point_too(sam2: SAM2, image: np.ndarray) -> None:
    """SAM 2 was trained with one beside boxes as well; without it the answer is another."""
    other = copy.copy(sam2)
    other.frontend = dataclasses.replace(
        sam2.frontend, policy=dataclasses.replace(sam2.policy, padding_point="without_box")
    )
    box = Prompt(box=[10, 10, 50, 40])
    ours, theirs = sam2.predict(image, box), other.predict(image, box)

    assert np.abs(ours.low_res_logits - theirs.low_res_logits).max() > 1e-3


def test_low_res_logits_are_clipped(sam2: SAM2, embedding: ImageEmbedding) -> None:
    """What goes back in as a mask lies within the limit, and the masks come from all of it."""
    policy = sam2.policy
    model = copy.copy(sam2)
    model.frontend = dataclasses.replace(
        sam2.frontend, policy=dataclasses.replace(policy, logit_limit=0.01)
    )
    ours = model.predict_with_embedding(embedding, (30, 20))
    theirs = sam2.predict_with_embedding(embedding, (30, 20))

    assert np.abs(ours.low_res_logits).max() == np.float32(0.01)
    assert np.array_equal(ours.masks, theirs.masks)


def test_unstable_masks_give_way_by_default(sam2: SAM2, embedding: ImageEmbedding) -> None:
    """A box answered by an unstable mask gets a candidate; the configuration turns that off."""
    box = Prompt(box=[10, 10, 50, 40])
    candidates = sam2.predict_with_embedding(embedding, box, multimask_output=True)
    plain = with_settings(sam2, stability=None).predict_with_embedding(embedding, box)
    shaky = with_settings(sam2, stability=(0.05, 1.1)).predict_with_embedding(embedding, box)

    assert sam2.config.stability == (0.05, 0.98)
    np.testing.assert_allclose(shaky.low_res_logits[0], candidates.best_low_res_logits, atol=1e-5)
    assert np.abs(plain.low_res_logits - shaky.low_res_logits).max() > 1e-3


def test_images_are_resized_in_floating_point(sam2: SAM2, image: np.ndarray) -> None:
    """The antialiased bilinear filter runs on values that are not rounded."""
    seen: list[torch.Tensor] = []
    with sam2.image_encoder.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        sam2.encode_image(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    resized = F.interpolate(tensor, size=(64, 64), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (resized - mean[:, None, None]) / std[:, None, None]

    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-5)


def test_video_frames_are_resized_by_pillow(sam2: SAM2, image: np.ndarray) -> None:
    """Bicubic on 8 bits, as the original's video predictor does."""
    seen: list[torch.Tensor] = []
    with sam2.image_encoder.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        sam2.encode_frames([image, image])
    resized = np.asarray(Image.fromarray(image).resize((64, 64)), np.float32)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    expected = torch.from_numpy((resized - mean) / std).permute(2, 0, 1).float()

    assert len(seen[0]) == 2
    torch.testing.assert_close(seen[0][0], expected, rtol=0, atol=1e-5)
    assert sam2.encode_frames([]) == []


@pytest.mark.parametrize("side", [32, 96, 128])
def test_any_multiple_of_32_is_an_input_side(sam2: SAM2, image: np.ndarray, side: int) -> None:
    """Feature sizes follow from the side."""
    embedding = sam2.encode_image(image, input_side=side)
    masks = sam2.predict_with_embedding(embedding, (30, 20))

    assert embedding.features.shape == (16, side // 16, side // 16)
    assert masks.low_res_logits.shape == (3, side // 4, side // 4)


def test_another_side_is_refused(sam2: SAM2, image: np.ndarray) -> None:
    """A multiple of 16 alone is not enough."""
    with pytest.raises(InputError, match="multiple of 32, got 80 x 80"):
        sam2.encode_image(image, input_side=80)


def test_embeddings_are_tied_to_what_made_them(sam2: SAM2, embedding: ImageEmbedding) -> None:
    """Another encoder, other finer projections or a video frame's policy are told apart."""
    other = tiny_sam2()
    with torch.no_grad():
        other.sam_mask_decoder.conv_s0.weight.add_(1)

    tiny_sam2().check_embedding(embedding)
    with pytest.raises(EmbeddingError, match="other encoder weights or another"):
        other.check_embedding(embedding)
    with pytest.raises(EmbeddingError, match="another preprocessing policy"):
        sam2.check_embedding(sam2.encode_frames([np.zeros((60, 90, 3), np.uint8)])[0])


def test_raw_images_and_batches_go_through_the_encoder(sam2: SAM2, image: np.ndarray) -> None:
    """`model.image_encoder` gives an embedding of an image and three maps of a batch."""
    maps = sam2.image_encoder(torch.zeros(2, 3, 64, 64))

    assert isinstance(sam2.image_encoder(image), ImageEmbedding)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 4, 4), (2, 16, 16, 16), (2, 16, 8, 8)]


def test_the_model_can_be_copied_and_pickled(sam2: SAM2, embedding: ImageEmbedding) -> None:
    """A copy is whole: its front end projects with its own decoder's weights."""
    for model in (copy.deepcopy(sam2), pickle.loads(pickle.dumps(sam2))):
        again = model.predict_with_embedding(embedding, (30, 20))

        assert model.frontend.decoder is model.sam_mask_decoder
        assert np.array_equal(
            again.low_res_logits, sam2.predict_with_embedding(embedding, (30, 20)).low_res_logits
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_runs_through_all_steps(image: np.ndarray, dtype: torch.dtype) -> None:
    """Images and every step of tracking; masks come out in float32."""
    sam2 = tiny_sam2().to(dtype)
    frame = sam2.frame_features(sam2.encode_frames([image])[0])
    outputs = decoded(sam2, frame, sam2.without_memory(frame), [Prompt([[5, 20]], [1])] * 3)
    features = sam2.condition(frame, looks_back(sam2, frame, outputs))
    tracked = sam2.decode_objects(frame, features)
    adopted = sam2.adopt_masks(frame, torch.ones(1, 60, 90, dtype=torch.bool))

    assert features.dtype == dtype
    assert tracked.low_res_logits.dtype == torch.float32
    assert adopted.object_pointer.dtype == dtype
    assert sam2.predict(image, (30, 20)).masks.shape == (3, 60, 90)


def test_the_best_of_three_is_chosen_for_one_point(sam2: SAM2, frame: FrameFeatures) -> None:
    """One point, or none, is ambiguous and has three candidates; a box or two points have one."""
    features = sam2.without_memory(frame)
    point = decoded(sam2, frame, features, [Prompt([[x, 20]], [1]) for x in range(5, 85, 4)])
    box = decoded(sam2, frame, features, [Prompt(box=[x, 10, x + 20, 40]) for x in range(5, 60, 4)])
    nothing = sam2.decode_objects(frame, features.expand(4, -1, -1, -1))

    assert point.decoded.iou_scores.shape == (20, 3)
    assert len(set(point.decoded.iou_scores.argmax(1).tolist())) > 1
    assert torch.equal(point.iou_scores, point.decoded.iou_scores.amax(1))
    assert box.decoded.iou_scores.shape == (len(box.iou_scores), 1)
    assert nothing.low_res_logits.shape == (4, *LOW)
    assert nothing.iou_scores.shape == (4,)


def test_tracking_has_two_padding_points(sam2: SAM2, frame: FrameFeatures) -> None:
    """The original pads the empty prompt, then pads the padding."""
    features = sam2.without_memory(frame)
    embedded = sam2.sam_prompt_encoder(
        torch.zeros(1, 2, 2), torch.full((1, 2), -1), None, frame.geometry.input_side
    )
    with torch.no_grad():
        expected = sam2.sam_mask_decoder.decode_objects(
            features, frame.image_pe, embedded, frame.fine_pixels, True
        )
    ours = sam2.decode_objects(frame, features)
    chosen = int(ours.decoded.iou_scores.argmax())

    torch.testing.assert_close(ours.low_res_logits[0], expected.low_res_logits[0, chosen])


def test_an_absent_object_has_no_mask(sam2: SAM2, frame: FrameFeatures) -> None:
    """Its logits are -1024 and its pointer is the one learnt for that."""
    model = copy.deepcopy(sam2)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-100)
        model.no_obj_ptr.normal_()
    outputs = model.decode_objects(frame, model.without_memory(frame))

    assert (outputs.low_res_logits == NO_OBJECT_LOGIT).all()
    assert torch.equal(outputs.object_pointer, model.no_obj_ptr)
    assert (outputs.object_score_logits < 0).all()


def test_objects_do_not_see_each_other(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """Three objects with memories of three lengths equal three runs of one."""
    recalls = looks_back(sam2, frame, outputs)
    together = sam2.condition(frame, recalls)
    apart = torch.cat([sam2.condition(frame, [one]) for one in recalls])
    tracked = sam2.decode_objects(frame, together)
    alone = [sam2.decode_objects(frame, together[k : k + 1]) for k in range(3)]

    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        tracked.low_res_logits, torch.cat([one.low_res_logits for one in alone])
    )


def test_memory_makes_a_difference(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """Each part of what is looked back at changes the features: tokens, ages, pointers."""
    one = looks_back(sam2, frame, outputs)[2]
    other_pointer = (one.pointers[0] + 1, *one.pointers[1:])
    changed = [
        dataclasses.replace(one, memories=(one.memories[0] + 1, *one.memories[1:])),
        dataclasses.replace(one, ages=(0, 1, 5)),
        dataclasses.replace(one, pointers=other_pointer),
        dataclasses.replace(one, pointer_ages=(1, 9)),
    ]
    features = sam2.condition(frame, [one, *changed])

    assert ((features[1:] - features[:1]).abs().amax((1, 2, 3)) > 1e-4).all()
    spans = [sam2.condition(frame, [one], max_pointers=span) for span in (16, 4)]
    torch.testing.assert_close(spans[0], sam2.condition(frame, [one]))
    assert (spans[0] - spans[1]).abs().max() > 1e-4


def test_conditioning_frames_have_a_time_of_their_own(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """Age 0 takes the last of the seven learnt times, ages 1 to 6 the others."""
    one = looks_back(sam2, frame, outputs)[0]
    memories = []
    for age in (0, 1, 6):
        tokens = sam2._memory_tokens(
            dataclasses.replace(one, ages=(age,)), torch.zeros(16, 8), span=16
        )
        memories.append(tokens.positions[0])

    assert torch.equal(torch.stack(memories), sam2.maskmem_tpos_enc[[6, 0, 5], 0, 0])


def test_without_memory_there_is_nothing_to_condition_on(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """No object, no memory and a memory too old are told what is expected."""
    one = looks_back(sam2, frame, outputs)[0]

    with pytest.raises(InputError, match="at least one object looks back at, got none"):
        sam2.condition(frame, [])
    with pytest.raises(InputError, match=r"memories of 1 or more frames.*got ages \[\]"):
        sam2.condition(frame, [Recall((), (), (), ())])
    with pytest.raises(InputError, match=r"age 0 to 6, got ages \[7\]") as error:
        sam2.condition(frame, [dataclasses.replace(one, ages=(7,))])
    assert "hint: choose them with nexus.models.memory.recall" in str(error.value)


def test_given_masks_are_adopted(sam2: SAM2, frame: FrameFeatures) -> None:
    """They come back as they are, with pointers; an empty one counts as absent."""
    masks = torch.zeros(3, 60, 90, dtype=torch.bool)
    masks[0, 10:40, 20:60] = True
    masks[1, :, :45] = True
    outputs = sam2.adopt_masks(frame, masks)
    full = F.interpolate(outputs.low_res_logits[:, None], size=(60, 90), mode="bilinear")[:, 0] > 0

    assert ((full & masks).sum((1, 2)) >= 0.9 * (full | masks).sum((1, 2)))[:2].all()
    assert outputs.object_score_logits.tolist() == [[10], [10], [-10]]
    assert outputs.iou_scores.tolist() == [1, 1, 1]
    assert torch.equal(outputs.object_pointer[2:], sam2.no_obj_ptr)
    assert (outputs.object_pointer[0] - outputs.object_pointer[1]).abs().max() > 1e-4


def test_clicked_masks_enter_memory_as_they_were_seen(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """Binarised for prompted objects alone, and for none if the configuration says so."""
    logits, scores = outputs.low_res_logits, outputs.object_score_logits
    hard = sam2.encode_memory(frame, logits, scores, True)
    soft = sam2.encode_memory(frame, logits, scores, False)
    mixed = sam2.encode_memory(frame, logits, scores, torch.tensor([True, False, True]))
    off = with_settings(sam2, binarize_clicks=False).encode_memory(frame, logits, scores, True)

    assert hard.shape == (3, 16, 8)
    assert (hard - soft).abs().max() > 1e-3
    torch.testing.assert_close(mixed, torch.stack([hard[0], soft[1], hard[2]]))
    torch.testing.assert_close(off, soft)


def test_a_memory_of_an_absent_object_is_marked(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """2.1 adds a vector to every token; a model without it leaves them."""
    model = copy.deepcopy(sam2)
    with torch.no_grad():
        model.no_obj_embed_spatial.normal_()
    logits = outputs.low_res_logits[:2]
    present = model.encode_memory(frame, logits, torch.tensor([[3.0], [3.0]]), False)
    half = model.encode_memory(frame, logits, torch.tensor([[3.0], [-3.0]]), False)
    old = tiny_sam2(
        config=dataclasses.replace(TINY_SAM2, marks_occlusion=False, times_pointers=False)
    )

    torch.testing.assert_close(half[0], present[0])
    torch.testing.assert_close(half[1], present[1] + model.no_obj_embed_spatial)
    assert not hasattr(old, "no_obj_embed_spatial")
    assert not hasattr(old, "obj_ptr_tpos_proj")


def test_the_steps_remember_nothing(
    sam2: SAM2, frame: FrameFeatures, outputs: ObjectOutputs
) -> None:
    """Running them leaves the model as it was and gives the same again."""
    before = {name: tensor.clone() for name, tensor in sam2.state_dict().items()}
    attributes = set(vars(sam2))
    recalls = looks_back(sam2, frame, outputs)
    logits = outputs.low_res_logits.clone()
    first, second = sam2.condition(frame, recalls), sam2.condition(frame, recalls)

    assert torch.equal(first, second)
    assert torch.equal(outputs.low_res_logits, logits)
    assert set(vars(sam2)) == attributes
    assert all(torch.equal(before[name], t) for name, t in sam2.state_dict().items())
