"""Images, prompts and masks between the original image and the model frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexus.core.errors import InputError, PromptError
from nexus.core.types import Prompt
from nexus.models.frame import (
    geometry_of,
    image_to_frame,
    logits_to_original,
    mask_to_frame,
    masks_to_original,
    prompts_to_frame,
    token_count,
    with_input_side,
)
from nexus.models.policy import LITE_MEDSAM_POLICY, MEDSAM_POLICY, SAM_POLICY, Policy

_POLICIES = (SAM_POLICY, MEDSAM_POLICY, LITE_MEDSAM_POLICY)


def test_sam_keeps_the_aspect_and_pads_with_zeros_after_normalising() -> None:
    """The longest side becomes 1024; the padding is zero, which is the mean colour."""
    image = np.full((300, 600, 3), 255, np.uint8)
    frame, geometry = image_to_frame(image, SAM_POLICY)

    assert geometry.resized_size_hw == (512, 1024)
    assert frame.shape == (3, 1024, 1024)
    assert torch.equal(frame[:, 512:], torch.zeros(3, 512, 1024))
    expected = (255 - np.array(SAM_POLICY.pixel_mean)) / SAM_POLICY.pixel_std
    np.testing.assert_allclose(frame[:, 0, 0], expected, rtol=1e-6)


def test_medsam_stretches_to_a_square_and_uses_the_image_range() -> None:
    """Aspect is not kept; the darkest pixel is 0, the brightest 1; each axis has its own scale."""
    image = np.linspace(40, 90, 100 * 200 * 3).reshape(100, 200, 3).astype(np.uint8)
    frame, geometry = image_to_frame(image, MEDSAM_POLICY)

    assert geometry.resized_size_hw == (1024, 1024)
    assert geometry.scale_xy == (5.12, 10.24)
    assert (frame.min().item(), frame.max().item()) == (0, 1)


def test_lite_medsam_scales_both_axes_alike() -> None:
    """Longest side 256, one factor for boxes, min-max before zero padding."""
    image = np.random.default_rng(0).integers(50, 200, (301, 512, 3), dtype=np.uint8)
    frame, geometry = image_to_frame(image, LITE_MEDSAM_POLICY)

    assert geometry.resized_size_hw == (151, 256)
    assert geometry.scale_xy == (0.5, 0.5)
    assert (frame[:, :151].min().item(), frame[:, :151].max().item()) == (0, 1)
    assert torch.equal(frame[:, 151:], torch.zeros(3, 105, 256))


@pytest.mark.parametrize("policy", _POLICIES)
def test_number_formats_of_one_picture_agree(policy: Policy) -> None:
    """8-bit, 16-bit and float versions of a picture give the same frame, up to 8-bit rounding."""
    # Away from 0 and 255, where 8-bit bicubic saturates and wider types do not.
    image = np.random.default_rng(1).integers(100, 156, (90, 70, 3), dtype=np.uint8)
    reference, _ = image_to_frame(image, policy)
    wide, _ = image_to_frame(image.astype(np.uint16) * 257, policy)
    real, _ = image_to_frame(image.astype(np.float32) / 255, policy)
    one_level = 1.01 / 56 if policy.normalize == "min_max" else 1.01 / min(policy.pixel_std)

    assert (wide - reference).abs().max() <= 2 * one_level
    assert (real - wide).abs().max() <= 1e-3


def test_min_max_keeps_the_range_of_16_bit_scans() -> None:
    """A scan that uses few of its 65,536 levels still fills [0, 1]."""
    scan = np.random.default_rng(2).integers(1000, 1040, (64, 64, 3), dtype=np.uint16)
    frame, _ = image_to_frame(scan, MEDSAM_POLICY)

    assert (frame.min().item(), frame.max().item()) == (0, 1)
    assert len(frame.unique()) > 100


def test_an_image_of_one_colour_is_not_divided_by_zero() -> None:
    """Its range is empty, so that it becomes zeros."""
    frame, _ = image_to_frame(np.full((9, 9, 3), 77, np.uint8), LITE_MEDSAM_POLICY)

    assert torch.equal(frame, torch.zeros_like(frame))


@pytest.mark.parametrize("policy", _POLICIES)
@given(height=st.integers(1, 400), width=st.integers(1, 400))
def test_a_mask_of_the_whole_image_comes_back_whole(
    policy: Policy, height: int, width: int
) -> None:
    """Whatever the size and the policy, the image covers its part of the frame and no padding."""
    policy = with_input_side(policy, 64)
    geometry = geometry_of((height, width), policy)
    inside = mask_to_frame(np.ones((height, width), bool), geometry, (64, 64))
    masks = masks_to_original(inside, geometry, policy)

    assert masks.shape == (1, height, width)
    assert masks.all()


def test_a_half_plane_goes_to_the_frame_and_back() -> None:
    """A bool mask given as a prompt keeps its place in every policy."""
    mask = np.zeros((120, 200), bool)
    mask[:, 60:] = True
    for policy in _POLICIES:
        geometry = geometry_of((120, 200), policy)
        logits = mask_to_frame(mask, geometry, (256, 256))
        back = masks_to_original(logits, geometry, policy)[0]

        assert (back != mask).mean() < 0.01


def test_sam_resizes_logits_through_the_input_size() -> None:
    """SAM's masks pass the input size on their way to the original, MedSAM's do not."""
    logits = torch.randn(1, 16, 16)
    geometry = geometry_of((40, 64), with_input_side(SAM_POLICY, 64))
    through = logits_to_original(logits, geometry, SAM_POLICY)
    direct = logits_to_original(logits, geometry, dataclasses.replace(SAM_POLICY, upscale="direct"))

    assert through.shape == direct.shape == (1, 40, 64)
    assert not torch.equal(through, direct)


def test_prompts_are_scaled_and_labelled() -> None:
    """Points keep their labels, box corners are 2 and 3, and points without a box are padded."""
    geometry = geometry_of((100, 200), with_input_side(SAM_POLICY, 400))
    point = prompts_to_frame([Prompt([[10, 20]], [0])], geometry, (100, 100), SAM_POLICY)
    both = prompts_to_frame(
        [Prompt([[10, 20]], box=[0, 0, 50, 60])], geometry, (100, 100), SAM_POLICY
    )

    assert point.point_coords.tolist() == [[[20, 40], [0, 0]]]
    assert point.point_labels.tolist() == [[0, -1]]
    assert both.point_coords.tolist() == [[[20, 40], [0, 0], [100, 120]]]
    assert both.point_labels.tolist() == [[1, 2, 3]]
    assert token_count(Prompt([[1, 1]]), SAM_POLICY) == 2
    assert token_count(Prompt(box=[0, 0, 1, 1]), SAM_POLICY) == 2


def test_a_mask_prompt_of_the_wrong_size_is_refused() -> None:
    """The message names both sizes, of logits and of bool masks."""
    geometry = geometry_of((100, 200), SAM_POLICY)
    with pytest.raises(PromptError, match=r"logits of shape \(256, 256\), got \(100, 200\)"):
        mask_to_frame(np.zeros((100, 200), np.float32), geometry, (256, 256))
    with pytest.raises(PromptError, match=r"image's size \(100, 200\), got \(256, 256\)"):
        mask_to_frame(np.zeros((256, 256), bool), geometry, (256, 256))


@pytest.mark.parametrize("side", [0, 100, 16, -64, 64.0, "64", True])
def test_an_input_side_no_model_can_have_is_refused(side: object) -> None:
    """It must be a whole multiple of 16."""
    with pytest.raises(InputError, match="multiple of 16"):
        with_input_side(SAM_POLICY, side)  # type: ignore[arg-type]


def test_a_policy_with_an_unknown_choice_is_refused() -> None:
    """The message lists the choices."""
    with pytest.raises(InputError, match="normalize to be one of mean_std, min_max, got 'zscore'"):
        Policy(normalize="zscore")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="deviations above 0"):
        Policy(pixel_std=(1, 0, 1))
