"""The prompt encoder."""

from __future__ import annotations

import math

import torch

from nexus.nn.prompt_encoder import PADDING, PromptEncoder


def _encoder() -> PromptEncoder:
    torch.manual_seed(0)
    return PromptEncoder(dim=8, mask_channels=4).eval()


def test_a_point_is_the_code_of_its_pixel_centre_plus_its_kind() -> None:
    """Half a pixel is added before the position code is taken."""
    encoder = _encoder()
    sparse, _ = encoder(torch.tensor([[[3.0, 5.0]]]), torch.tensor([[1]]), None, 64)
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix
    angle = 2 * math.pi * (torch.tensor([2 * 3.5 / 64 - 1, 2 * 5.5 / 64 - 1]) @ matrix)
    expected = torch.cat([angle.sin(), angle.cos()]) + encoder.point_embeddings[1].weight[0]

    torch.testing.assert_close(sparse[0, 0], expected)


def test_padding_has_no_position() -> None:
    """A padding point is the same wherever it is."""
    encoder = _encoder()
    coords = torch.tensor([[[0.0, 0.0], [40.0, 9.0]]])
    sparse, _ = encoder(coords, torch.full((1, 2), PADDING), None, 64)

    assert torch.equal(sparse[0, 0], encoder.not_a_point_embed.weight[0])
    assert torch.equal(sparse[0, 1], sparse[0, 0])


def test_grid_positions_are_those_of_cell_centres() -> None:
    """Cell (row, column) has the code of its centre, x before y."""
    encoder = _encoder()
    grid = encoder.dense_positions((4, 2))

    assert grid.shape == (1, 8, 4, 2)
    expected = encoder.pe_layer(torch.tensor([0.75, 0.125]))
    torch.testing.assert_close(grid[0, :, 0, 1], expected)


def test_a_mask_becomes_one_vector_per_cell() -> None:
    """Mask logits of 4 x the grid shrink to the grid; no mask is one learned vector."""
    encoder = _encoder()
    points, labels = torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.long)
    sparse, dense = encoder(points, labels, torch.randn(2, 1, 12, 8), 64)
    _, none = encoder(points, labels, None, 64)

    assert sparse.shape == (2, 0, 8)
    assert dense.shape == (2, 8, 3, 2)
    assert torch.equal(none.flatten(), encoder.no_mask_embed.weight[0])
