"""A clip with gradients is a session, number for number, and teaches all that remembers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nexus.core.errors import InputError, PromptError, VideoError
from nexus.core.types import Prompt
from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.models.tracking_step import cleaned
from nexus.predict.video.session import VideoSession
from nexus.train.video.clip_forward import ClipLogits, clip_logits, habits_of_learning
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, TINY_SAM2_POLICY, tiny_sam2
from tests.predict.clips import BOX, CLICK, CORRECTION, clip

CONFIGS = pytest.mark.parametrize("config", [TINY_SAM2, TINY_EDGETAM], ids=["sam2", "edgetam"])
MASK = np.zeros((48, 64), bool)
MASK[2:20, 3:22] = True
KINDS = {1: Prompt(**CLICK), 2: Prompt(**BOX), 3: Prompt(mask=MASK), 4: Prompt(**CORRECTION)}


def session_of(
    model: SAM2, frames: list[np.ndarray], prompts_at: dict[int, dict[int, Prompt]]
) -> VideoSession:
    """Return a session that was given the prompts."""
    session = model.video(frames)
    for t, prompts in prompts_at.items():
        for k, prompt in prompts.items():
            session.add(t, k, prompt=prompt)
    return session


def check_equal(model: SAM2, shown: ClipLogits, session: VideoSession) -> None:
    """Compare every frame; a session shows its masks without specks."""
    area = model.config.fill_hole_area
    with session:
        for frame in session.propagate(start=0):
            low = shown.low_res_logits[frame.index].detach()
            clean = np.stack([cleaned(one, area).numpy() for one in low])

            assert frame.object_ids == shown.object_ids
            assert np.allclose(clean, frame.low_res_logits, atol=1e-4)
            ious = shown.iou_scores[frame.index].detach().numpy()
            scores = shown.object_score_logits[frame.index].detach().numpy()
            assert np.allclose(ious, frame.iou_scores, atol=1e-4)
            assert np.allclose(scores, frame.object_score_logits, atol=1e-4)


@CONFIGS
def test_a_clip_equals_a_session(config: SAM2Config) -> None:
    """Logits and scores are those of a session without gradients, whatever the kind of prompt."""
    model, frames = tiny_sam2(config=config), clip(9)
    shown = clip_logits(model, frames, {0: KINDS})

    assert shown.low_res_logits.shape == (9, 4, 16, 16)
    assert shown.low_res_logits.requires_grad
    check_equal(model, shown, session_of(model, frames, {0: KINDS}))


def test_prompts_on_later_frames_equal_a_session() -> None:
    """Frames look at prompts ahead of them, as in a session prompted before it propagates."""
    model, frames = tiny_sam2(), clip(6)
    prompts_at = {1: {1: KINDS[1]}, 4: {1: KINDS[2], 7: KINDS[3]}}

    check_equal(
        model, clip_logits(model, frames, prompts_at), session_of(model, frames, prompts_at)
    )


def test_the_habits_of_training_equal_a_session_with_them() -> None:
    """Stability, hard masks and filling go in as an argument; the model keeps its own."""
    model, frames = tiny_sam2(), clip(5)
    habits = habits_of_learning(model)
    shown = clip_logits(model, frames, {0: KINDS}, habits=habits)
    usual = clip_logits(model, frames, {0: KINDS})
    other = tiny_sam2(
        config=dataclasses.replace(
            TINY_SAM2, stability=None, binarize_clicks=False, fill_hole_area=0
        )
    )

    assert habits == other.config
    assert model.config == TINY_SAM2
    assert not torch.equal(shown.low_res_logits, usual.low_res_logits)
    check_equal(other, shown, session_of(other, frames, {0: KINDS}))


class Forgetful(SAM2):
    """A SAM 2 that remembers nothing but zeros."""

    def encode_memory(self, *arguments: Any) -> Tensor:
        """Return zeros of the right shape."""
        return 0 * super().encode_memory(*arguments)


def test_a_subclass_is_heeded() -> None:
    """What it does in a way of its own is in the numbers, and they are its session's."""
    model, frames = Forgetful(TINY_SAM2, "tiny", TINY_SAM2_POLICY), clip(5)
    model.load_state_dict(tiny_sam2().state_dict())
    shown = clip_logits(model, frames, {0: KINDS})
    usual = clip_logits(tiny_sam2(), frames, {0: KINDS})

    assert torch.equal(shown.low_res_logits[0], usual.low_res_logits[0])
    assert not torch.allclose(shown.low_res_logits[1:], usual.low_res_logits[1:], atol=1e-3)
    check_equal(model, shown, session_of(model, frames, {0: KINDS}))


def test_corrections_of_several_kinds_equal_a_session() -> None:
    """Beside one that starts from the answer before, one may bring a rough mask of its own."""
    model, frames = tiny_sam2(), clip(4)
    rough = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    second = {1: KINDS[4], 2: Prompt(KINDS[4].points, KINDS[4].labels, mask=rough)}
    rounds = iter([second])
    first = {1: KINDS[1], 2: KINDS[2]}
    shown = clip_logits(model, frames, {0: first}, correct=lambda *_: next(rounds, {}))
    session = session_of(model, frames, {0: first})
    for k, prompt in second.items():
        session.add(0, k, prompt=prompt)

    check_equal(model, shown, session)


def test_corrections_equal_a_session() -> None:
    """A corrected first frame is what a session has that was corrected there."""
    model, frames = tiny_sam2(), clip(4)
    given: list[int] = []

    def correct(frame_index: int, masks: dict[int, np.ndarray]) -> dict[int, Prompt]:
        given.append(frame_index)
        assert masks[1].shape == (48, 64)
        return {1: KINDS[4]} if given == [0] else {}

    shown = clip_logits(model, frames, {0: {1: KINDS[1]}}, correct=correct)

    assert given == [0, 0, 1, 2, 3]
    assert [len(answers) for answers in shown.answers] == [2, 1, 1, 1]
    session = session_of(model, frames, {0: {1: KINDS[1]}})
    session.add(0, 1, prompt=KINDS[4])
    check_equal(model, shown, session)


def test_a_tracked_frame_is_corrected_as_in_a_session() -> None:
    """A correction starts from features with memory, and from the mask that is there."""
    model, frames = tiny_sam2(), clip(5)
    asked: list[int] = []

    def correct(frame_index: int, _: object) -> dict[int, Prompt]:
        asked.append(frame_index)
        return {1: KINDS[4]} if asked.count(2) == 1 and frame_index == 2 else {}

    shown = clip_logits(model, frames, {0: {1: KINDS[1]}}, correct=correct)
    session = session_of(model, frames, {0: {1: KINDS[1]}})
    for _ in session.propagate(stop=3):
        pass
    session.add(2, 1, prompt=KINDS[4])

    check_equal(model, shown, session)


def late_loss(shown: ClipLogits) -> Tensor:
    """Return something all answers after the first frame are in."""
    late = [answer for answers in shown.answers[1:] for answer in answers]
    parts = [
        one.candidate_logits.square().mean()
        + one.candidate_scores.mean()
        + one.object_score_logits.mean()
        for one in late
    ]
    return torch.stack(parts).sum()


@CONFIGS
def test_gradients_reach_all_that_remembers(config: SAM2Config) -> None:
    """Every parameter of memory attention, memory encoder and perceiver has a gradient."""
    model = tiny_sam2(config=config)
    late_loss(clip_logits(model, clip(8), {0: {1: KINDS[1], 2: KINDS[2]}})).backward()
    rooms = ("memory_attention.", "memory_encoder.", "spatial_perceiver.", "obj_ptr_proj.")
    rooms += ("maskmem_tpos_enc", "obj_ptr_tpos_proj.", "no_mem_embed")
    mine = {n: p for n, p in model.named_parameters() if n.startswith(rooms)}
    without = [n for n, p in mine.items() if p.grad is None or float(p.grad.abs().max()) == 0]

    assert len(mine) > 60
    assert without == []


def test_a_mask_prompt_teaches_its_way_in() -> None:
    """A given mask has no answer to learn from, but its pointer carries gradients back."""
    model = tiny_sam2()
    shown = clip_logits(model, clip(3), {0: {1: KINDS[3]}})
    late_loss(shown).backward()

    assert shown.answers[0] == ()
    assert float(model.mask_downsample.weight.grad.abs().max()) > 0


def test_only_what_is_absent_teaches_the_embeddings_of_absence() -> None:
    """The two parameters that stand for an object out of frame learn where one is out of frame."""
    model = tiny_sam2()
    names = ("no_obj_ptr", "no_obj_embed_spatial")
    late_loss(clip_logits(model, clip(3), {0: {1: KINDS[1]}})).backward()
    there = [float(getattr(model, name).grad.abs().max()) for name in names]
    model.zero_grad()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50)
    late_loss(clip_logits(model, clip(3), {0: {1: KINDS[1]}})).backward()

    assert there == [0, 0]
    assert all(float(getattr(model, name).grad.abs().max()) > 0 for name in names)


def test_masks_of_absent_objects_still_learn() -> None:
    """Candidates are not blanked where the object is thought to be out of frame; results are."""
    model = tiny_sam2()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50)
    shown = clip_logits(model, clip(2), {0: {1: KINDS[1]}})

    assert bool((shown.low_res_logits == -1024).all())
    assert bool((shown.answers[1][0].candidate_logits > -1024).all())


def memory_gradient(gradient_frames: int | None) -> dict[int, bool]:
    """Tell which frames' images the last answer of a clip has a gradient for."""
    model = tiny_sam2()
    images = [torch.from_numpy(f).permute(2, 0, 1) / 255 for f in clip(5)]
    features = []
    hook = model.image_encoder.neck.register_forward_hook(
        lambda _module, _input, output: (output.retain_grad(), features.append(output))[1]
    )
    shown = clip_logits(
        model, torch.stack(images), {0: {1: KINDS[1]}}, gradient_frames=gradient_frames
    )
    hook.remove()
    shown.answers[4][0].candidate_logits.square().mean().backward()
    return {t: one.grad is not None and bool(one.grad.any()) for t, one in enumerate(features)}


@pytest.mark.parametrize(
    ("gradient_frames", "reached"),
    [(None, [0, 1, 2, 3, 4]), (0, [4]), (1, [0, 1, 2, 3, 4])],
)
def test_old_memories_can_be_cut_off(gradient_frames: int | None, reached: list[int]) -> None:
    """With 0 no gradient leaves the frame; with 1 it goes back from frame to frame."""
    found = memory_gradient(gradient_frames)

    assert [t for t, has in found.items() if has] == reached


def test_a_cut_changes_gradients_and_not_numbers() -> None:
    """The forward pass is the same with and without a cut."""
    model, prompts = tiny_sam2(), {0: {1: KINDS[1]}}
    whole, cut = (clip_logits(model, clip(4), prompts, gradient_frames=n) for n in (None, 1))
    gradients = []
    for shown in (whole, cut):
        model.zero_grad()
        late_loss(shown).backward()
        gradients.append(model.memory_encoder.out_proj.weight.grad.clone())

    assert torch.equal(whole.low_res_logits, cut.low_res_logits)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)


@CONFIGS
def test_checkpointing_gives_the_same_gradients(config: SAM2Config) -> None:
    """What is computed again in the backward pass is what was computed before."""
    model, gradients = tiny_sam2(config=config), []
    for checkpointing in (False, True):
        model.zero_grad()
        late_loss(
            clip_logits(model, clip(4), {0: {1: KINDS[1]}}, checkpointing=checkpointing)
        ).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})

    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(g, gradients[1][n], atol=1e-6) for n, g in gradients[0].items())


def test_a_frozen_encoder_keeps_nothing() -> None:
    """Its features have no graph, while the decoder's projections of the finer maps learn."""
    model, features = tiny_sam2(), []
    model.image_encoder.requires_grad_(False)
    hook = model.image_encoder.neck.register_forward_hook(
        lambda _module, _input, output: features.append(output)
    )
    late_loss(clip_logits(model, clip(3), {0: {1: KINDS[1]}})).backward()
    hook.remove()

    assert [one.requires_grad for one in features] == [False] * 3
    assert all(p.grad is None for p in model.image_encoder.parameters())
    assert float(model.sam_mask_decoder.conv_s0.weight.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("frames", "prompts_at", "options", "error", "message"),
    [
        ([], {0: KINDS}, {}, InputError, "expected a clip of at least one frame, got none"),
        (clip(2), {}, {}, InputError, "expected at least one prompt, got none"),
        (clip(2), {0: {}}, {}, InputError, "expected at least one prompt, got none"),
        (clip(2), {2: KINDS}, {}, InputError, "expected prompts on frames 0 to 1, got frame 2"),
        (
            clip(2),
            {0: KINDS},
            {"gradient_frames": -1},
            InputError,
            "expected gradient_frames of 0 or more, got -1",
        ),
        (
            [clip(1)[0], clip(1)[0][:40]],
            {0: KINDS},
            {},
            VideoError,
            "expected frames of 64 x 48 pixels like the first, got 64 x 40 at frame 1",
        ),
        (clip(2), {0: {1: (70, 3)}}, {}, PromptError, "expected points inside the image"),
    ],
)
def test_what_cannot_be_tracked_is_refused(
    frames: list[np.ndarray],
    prompts_at: dict[int, dict[int, Prompt]],
    options: dict[str, int],
    error: type[Exception],
    message: str,
) -> None:
    """The message says what is wrong with frames, prompts or options."""
    with pytest.raises(error) as caught:
        clip_logits(tiny_sam2(), frames, prompts_at, **options)

    assert message in str(caught.value)
