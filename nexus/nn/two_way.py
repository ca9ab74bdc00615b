"""The two-way transformer of SAM's mask decoder.

Follows "Segment Anything" (arXiv 2304.02643), appendix A. Parameter names are those of the
official checkpoints. The result is the original's; the arithmetic is arranged for few tokens (t,
about 7) that meet many pixels (L, about 4,096):

- projections of the image move to the token side, q . (W x) = (W^T q) . x and
  sum_i a_i (W x_i) = W (sum_i a_i x_i), so that no L x C map is ever projected;
- the bias of a key shifts all scores of a query alike and drops out of the softmax;
- in the first layer all prompts look at the same image, so that one product serves them all;
- positions are the same for all prompts, so that their part of all scores is one product.

The plain form is `tests/nn/plain_decoder.py`, the oracle of this one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexus.nn.layers import MLP, affine_of, mlp_block


class TwoWayTransformer(nn.Module):
    """Let the tokens of P prompts and an image attend to each other."""

    def __init__(self, depth: int, dim: int, heads: int, hidden: int, mlp: str = "block") -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, hidden, mlp) for _ in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (P, t, C) and image (P, L, C) after they attended to each other.

        Args:
            tokens: (P, t, C) the prompts; also their own position code.
            image: (P, L, C), or (1, L, C) for one image that all prompts share.
            image_pe: (L, C) position code of the image.
        """
        queries, keys = tokens, image
        for index, layer in enumerate(self.layers):
            queries, keys = layer(queries, keys, tokens, image_pe, first=index == 0)
        attended = self.final_attn_token_to_image.pool(queries + tokens, keys, image_pe)
        return self.norm_final_attn(queries + attended), keys


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image to the tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, mlp: str) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp: nn.Module = (
            mlp_block(dim, hidden, nn.ReLU()) if mlp == "block" else MLP(dim, hidden, dim, 2)
        )
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, dim // 2)

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor, first: bool
    ) -> tuple[Tensor, Tensor]:
        if first:
            # The first layer's tokens are their own position code and have no residual yet.
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)
        attended = self.cross_attn_token_to_image.pool(queries + query_pe, keys, key_pe)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.cross_attn_image_to_token.spread(keys, key_pe, queries + query_pe, queries)
        return queries, self.norm4(keys)


class Attention(nn.Module):
    """Multi-head attention whose heads may be narrower than the tokens.

    `forward` is the plain form, `pool` and `spread` the forms for one side much longer than the
    other.
    """

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, inner // heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (P, t, C) to k and v (P, s, C); return (P, t, C)."""
        P, t, _ = q.shape
        q, k, v = (
            projection(x).view(P, -1, self.heads, self.head_dim).transpose(1, 2)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )  # (P, heads, t or s, head_dim)
        weights = (q @ k.transpose(-1, -2) * self.head_dim**-0.5).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(P, t, -1))

    def pool(self, queries: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
        """Attend from few (P, t, C) tokens to many pixels: (P, t, C).

        The image, (P or 1, L, C), is the values; the keys are image + image_pe, which is (L, C).
        """
        P, t, C = queries.shape
        q = self.q_proj(queries).view(P, t, self.heads, self.head_dim) * self.head_dim**-0.5
        key_weight, _ = affine_of(self.k_proj, C)
        value_weight, value_bias = affine_of(self.v_proj, C)
        key_weight = key_weight.view(self.heads, self.head_dim, C)
        value_weight = value_weight.view(self.heads, self.head_dim, C)

        q = torch.einsum("ptnd,ndc->pntc", q, key_weight)  # (P, heads, t, C)
        if len(image) == 1:
            rows = q.reshape(-1, C)
            pooled = (rows @ (image[0] + image_pe).t()).softmax(-1) @ image[0]
        else:
            rows = q.reshape(P, -1, C)
            from_positions = rows @ image_pe.t()  # (P, heads * t, L)
            scores = torch.baddbmm(from_positions, rows, image.transpose(1, 2))
            pooled = scores.softmax(-1) @ image
        pooled = pooled.view(P, self.heads, t, C)
        out = torch.einsum("pntc,ndc->ptnd", pooled, value_weight).flatten(-2)
        return self.out_proj(out + value_bias)

    def spread(self, image: Tensor, image_pe: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from many pixels to few tokens and add the result to the pixels: (P, L, C).

        The queries are the image, (P or 1, L, C), + image_pe, (L, C); keys and values are
        (P, t, C).
        """
        P, t, C = keys.shape
        k = self.k_proj(keys).view(P, t, self.heads, self.head_dim) * self.head_dim**-0.5
        v = self.v_proj(values).view(P, t, self.heads, self.head_dim)
        query_weight, query_bias = affine_of(self.q_proj, C)
        out_weight, out_bias = affine_of(self.out_proj, self.heads * self.head_dim)
        query_weight = query_weight.view(self.heads, self.head_dim, C)
        out_weight = out_weight.view(C, self.heads, self.head_dim)

        # Each token becomes heads * t rows that meet the pixels without projecting them.
        offset = torch.einsum("ptnd,nd->pnt", k, query_bias.view(self.heads, self.head_dim))
        k = torch.einsum("ptnd,ndc->pntc", k, query_weight).reshape(P, -1, C)
        v = torch.einsum("ptnd,cnd->pntc", v, out_weight).reshape(P, -1, C)
        # The weights of each head sum to 1, so that every value can carry its share of the bias.
        v = v + out_bias / self.heads
        if len(image) == 1:
            scores = k @ (image[0] + image_pe).t()  # (P, heads * t, L)
        else:
            scores = torch.baddbmm(k @ image_pe.t(), k, image.transpose(1, 2))
        scores = scores.view(P, self.heads, t, -1) + offset.unsqueeze(-1)
        weights = scores.softmax(2).view(P, self.heads * t, -1)
        return torch.baddbmm(image.expand(P, -1, -1), weights.transpose(1, 2), v)
