"""Losses against their formulas, and the way masks reach the frame of the logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nexus.core.errors import InputError
from nexus.core.types import Geometry, Prompt
from nexus.models.frame import geometry_of, logits_to_original
from nexus.models.policy import LITE_MEDSAM_POLICY, SAM2_POLICY, SAM_POLICY
from nexus.train.losses import (
    bce_loss,
    dice_loss,
    focal_loss,
    iou_head_loss,
    sam_loss,
    truths_to_frame,
)
from tests.models.tiny import tiny_sam

EVERY_LOSS = [dice_loss, focal_loss, bce_loss]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def masks() -> torch.Tensor:
    return torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.6


def test_dice_by_hand() -> None:
    """Half of the probability on a mask of two pixels."""
    logits = torch.tensor([[100.0, -100.0], [100.0, -100.0]])
    mask = torch.tensor([[True, True], [False, False]])

    assert dice_loss(logits, mask).item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))
    assert dice_loss(logits, mask, smooth=0.0).item() == pytest.approx(0.5)


def test_focal_by_hand() -> None:
    """Weight alpha on mask and 1 - alpha elsewhere, times what is still wrong to the gamma."""
    logits = torch.tensor([[2.0, -1.0]])
    p, q = (1 / (1 + math.exp(-x)) for x in (2.0, -1.0))
    on_mask, on_background = -((1 - p) ** 2) * math.log(p), -(q**2) * math.log(1 - q)

    given = focal_loss(logits, torch.tensor([[1.0, 0.0]])).item()
    assert given == pytest.approx((0.25 * on_mask + 0.75 * on_background) / 2)


def test_focal_without_weights_is_cross_entropy(logits: torch.Tensor, masks: torch.Tensor) -> None:
    """So is BCE, torch's own."""
    truth = masks.float().unsqueeze(2).expand_as(logits)
    expected = F.binary_cross_entropy_with_logits(logits, truth)

    torch.testing.assert_close(focal_loss(logits, masks, alpha=None, gamma=0.0), expected)
    torch.testing.assert_close(bce_loss(logits, masks), expected)


@pytest.mark.parametrize("loss", [focal_loss, bce_loss])
def test_a_share_is_a_mix_of_mask_and_background(loss: object) -> None:
    """A quarter of mask costs a quarter of what mask costs and three of what background does."""
    logits = torch.full((4, 4), 0.7)
    share, mask, background = (loss(logits, torch.full((4, 4), x)) for x in (0.25, 1.0, 0.0))

    torch.testing.assert_close(share, 0.25 * mask + 0.75 * background)


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_a_value_for_each_mask(loss: object, logits: torch.Tensor, masks: torch.Tensor) -> None:
    """'none' gives one per candidate, whose mean is 'mean'; extreme logits stay finite."""
    each = loss(logits, masks, reduction="none")

    assert each.shape == (2, 5, 3)
    torch.testing.assert_close(each.mean(), loss(logits, masks))
    torch.testing.assert_close(each, loss(logits, masks.unsqueeze(2), reduction="none"))
    torch.testing.assert_close(each[1, 2, 0], loss(logits[1, 2, 0], masks[1, 2]))
    far = (logits * 1e4).requires_grad_()
    loss(far, masks).backward()
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_what_counts_for_nothing_changes_nothing(
    loss: object, logits: torch.Tensor, masks: torch.Tensor
) -> None:
    """Where the weight is 0 neither logits nor masks matter, and no gradient arises."""
    valid = torch.zeros(8, 8)
    valid[:5, :7] = 1
    cut = loss(logits[..., :5, :7], masks[..., :5, :7])
    noisy = torch.where(valid > 0, logits, 50.0).requires_grad_()
    given = loss(noisy, masks | (valid == 0), valid=valid)
    given.backward()

    torch.testing.assert_close(given, cut)
    assert noisy.grad[..., 5:, :].abs().max() == 0
    assert noisy.grad[..., :5, :7].abs().max() > 0


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_lists_of_unequal_images(loss: object, logits: torch.Tensor, masks: torch.Tensor) -> None:
    """The mean is over all masks of all images; one without prompts adds nothing."""
    pieces = [logits[0], logits[1, :2], logits[1, :0]]
    truths = [masks[0], masks[1, :2], masks[1, :0]]
    each = loss(pieces, truths, reduction="none")

    assert [tuple(one.shape) for one in each] == [(5, 3), (2, 3), (0, 3)]
    torch.testing.assert_close(loss(pieces, truths), torch.cat(each[:2]).mean())
    assert loss(pieces[2:], truths[2:]).item() == 0


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_masks_are_resized_by_area(loss: object) -> None:
    """A larger mask counts by the share of each logit that is mask, whatever the ratio."""
    large = torch.zeros(1, 24, 24)
    large[:, :10, :9] = 1
    small = torch.zeros(1, 8, 8)
    small[:, :3, :3] = 1
    small[:, 3, :3] = 1 / 3
    logits = torch.linspace(-3, 3, 64).view(1, 8, 8)

    torch.testing.assert_close(loss(logits, large), loss(logits, small))


def test_area_holds_for_odd_ratios(masks: torch.Tensor) -> None:
    """The area of a mask is kept when it is resized by 8 / 3, and when it grows."""
    logits = torch.zeros(2, 5, 3, 3)
    for size in (3, 11):
        loss = focal_loss(
            torch.full((2, 5, size, size), 0.0), masks, alpha=1.0, gamma=0.0, reduction="none"
        )
        torch.testing.assert_close(loss, math.log(2) * masks.float().mean((-2, -1)))
    assert bce_loss(logits, masks).item() == pytest.approx(math.log(2))


def test_score_error_by_hand() -> None:
    """Against the IoU of what is drawn; two empty masks have 1; only scores learn."""
    logits = torch.tensor([[[5.0, 5.0], [-5.0, -5.0]], [[-5.0] * 2] * 2]).requires_grad_()
    masks = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]]])
    scores = torch.tensor([0.5, 0.7], requires_grad=True)
    each = iou_head_loss(scores, logits, masks, reduction="none")
    each.sum().backward()

    np.testing.assert_allclose(each.detach(), [(0.5 - 1 / 3) ** 2, (0.7 - 1) ** 2], rtol=1e-5)
    assert logits.grad is None
    assert scores.grad.tolist() == pytest.approx([2 * (0.5 - 1 / 3), 2 * (0.7 - 1)])


def test_the_mixture_teaches_the_best_candidate(logits: torch.Tensor, masks: torch.Tensor) -> None:
    """Focal 20, dice 1 of the best candidate; score error 1 of all."""
    scores = torch.rand(2, 5, 3)
    logits = logits.requires_grad_()
    given = sam_loss(logits, scores, masks, reduction="none")
    drawn = 20 * focal_loss(logits, masks, reduction="none")
    drawn = drawn + dice_loss(logits, masks, reduction="none")
    best, which = drawn.min(-1)
    errors = iou_head_loss(scores, logits, masks, reduction="none")
    given.sum().backward()
    learnt = logits.grad.flatten(-2).abs().sum(-1) > 0

    torch.testing.assert_close(given, best + errors.mean(-1))
    torch.testing.assert_close(given.mean(), sam_loss(logits, scores, masks))
    assert torch.equal(learnt, F.one_hot(which, 3).bool())
    pieces = [logits[0], logits[1, :2]]
    several = sam_loss(pieces, [scores[0], scores[1, :2]], [masks[0], masks[1, :2]])
    torch.testing.assert_close(several, torch.cat([given[0], given[1, :2]]).mean())


def test_the_lines_of_the_documents_run() -> None:
    """A frozen encoder, an optimiser for the decoder, two losses, one step that lowers them."""
    sam = tiny_sam()
    for param in sam.image_encoder.parameters():
        param.requires_grad = False
    before = [param.clone() for param in sam.image_encoder.parameters()]
    optimizer = torch.optim.AdamW(sam.mask_decoder.parameters(), lr=1e-2)
    images = torch.rand(2, 3, 60, 60)
    prompts = [[Prompt(box=[10, 10, 40, 40])], [Prompt(box=[20, 5, 50, 50])]]
    masks = torch.zeros(2, 1, 60, 60, dtype=torch.bool)
    masks[..., 15:35, 25:38] = True
    losses = []
    for _ in range(5):
        pred_masks = sam(images, prompts)
        loss = dice_loss(pred_masks, masks) + focal_loss(pred_masks, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < losses[0] - 0.05
    assert all(map(torch.equal, before, sam.image_encoder.parameters()))


@pytest.mark.parametrize("policy", [SAM_POLICY, SAM2_POLICY, LITE_MEDSAM_POLICY])
@pytest.mark.parametrize("size_hw", [(300, 470), (500, 333)])
def test_truths_come_where_logits_show_them(policy: object, size_hw: tuple[int, int]) -> None:
    """Brought to the frame and back by the model's own rules a mask is what it was."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    masks = np.stack(
        [
            (rows - 150) ** 2 + (columns - 200) ** 2 < 90**2,
            (rows > 200) & (columns > 240),
        ]
    )
    geometry = geometry_of(size_hw, policy)
    shares, valid = truths_to_frame(masks, geometry, (256, 256))
    back = logits_to_original(shares * 20 - 10, geometry, policy) > 0

    assert shares.shape == (2, 256, 256)
    assert valid.shape == (256, 256)
    for mask, again in zip(masks, back.numpy(), strict=True):
        assert (mask & again).sum() / (mask | again).sum() > 0.985
    # Areas agree to rounding: the share of the frame that is image, and that is mask.
    per_logit = np.prod(size_hw) / float(valid.sum())
    areas = (shares * valid).sum((-2, -1)).numpy() * per_logit
    np.testing.assert_allclose(areas, masks.sum((-2, -1)), rtol=1e-4)


def test_padding_counts_for_nothing() -> None:
    """Weights end with the image, by a fraction where it ends within a logit."""
    geometry = Geometry((30, 40), (48, 64), 64, (1.6, 1.6))
    shares, valid = truths_to_frame(np.ones((1, 30, 40), bool), geometry, (16, 16))
    fraction, coarse = truths_to_frame(np.ones((1, 30, 40), bool), geometry, (6, 6))

    assert valid[:12].eq(1).all()
    assert valid[12:].eq(0).all()
    assert shares[0, :12].eq(1).all()
    assert shares[0, 12:].eq(0).all()
    np.testing.assert_allclose(coarse[:, 0], [1, 1, 1, 1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(fraction[0, :, 0], [1, 1, 1, 1, 1, 0], atol=1e-6)


def test_ignored_pixels_have_no_weight() -> None:
    """What they would show of a mask is not counted either way."""
    geometry = Geometry((8, 8), (8, 8), 8, (1.0, 1.0))
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 0, :2] = True
    ignored = np.zeros((8, 8), bool)
    ignored[0, 1] = ignored[2:4, 2:4] = True
    shares, valid = truths_to_frame(mask, geometry, (4, 4), ignored)

    assert valid[0, 0].item() == pytest.approx(0.75)
    assert valid[1, 1].item() == 0
    assert shares[0, 0, 0].item() == pytest.approx(1 / 3)
    assert shares[0, 1, 1].item() == 0


def test_what_does_not_go_together_is_refused(logits: torch.Tensor, masks: torch.Tensor) -> None:
    """The message shows the shapes."""
    geometry = Geometry((30, 40), (48, 64), 64, (1.6, 1.6))

    with pytest.raises(InputError, match=r"logits of shape \(2, 5, 3, 8, 8\), got shape \(2, 4,"):
        dice_loss(logits, masks[:, :4])
    with pytest.raises(InputError, match=r"got shape \(8, 8\)"):
        dice_loss(logits, masks[0, 0])
    with pytest.raises(InputError, match=r"aspect of the logits, 8 x 8, got 6 x 8\nhint: .*frame"):
        focal_loss(logits, masks[..., :6, :])
    with pytest.raises(InputError, match=r"expected float logits of shape .*, got torch.bool of"):
        bce_loss(masks, masks)
    with pytest.raises(InputError, match=r"masks of shape \(..., H, W\), got torch.bool of shape"):
        bce_loss(logits, masks[0, 0, 0])
    with pytest.raises(InputError, match=r"weights that broadcast to .*, got shape \(7, 8, 8\)"):
        dice_loss(logits, masks, valid=torch.ones(7, 8, 8))
    with pytest.raises(InputError, match="reduction 'mean' or 'none', got 'sum'"):
        dice_loss(logits, masks, reduction="sum")
    with pytest.raises(InputError, match="each of 2 images, got 1 and 2"):
        dice_loss(list(logits), [masks[0]])
    with pytest.raises(InputError, match=r"one score for each mask, shape \[\(2, 5, 3\)\], got"):
        sam_loss(logits, torch.rand(2, 5), masks)
    with pytest.raises(InputError, match=r"with candidates, got one mask alone"):
        sam_loss(logits[0, 0, 0], torch.tensor(0.5), masks[0, 0])
    with pytest.raises(InputError, match=r"masks of shape \(P, 30, 40\), .* got shape \(30, 40\)"):
        truths_to_frame(np.zeros((30, 40), bool), geometry, (16, 16))
    with pytest.raises(InputError, match=r"ignored pixels of the image's size \(30, 40\), got"):
        truths_to_frame(np.zeros((1, 30, 40), bool), geometry, (16, 16), np.zeros((3, 3), bool))
