"""How far each word's logits move in each head, between two models.

A head's logits for a word are `v @ W_O @ W_U`, with the word's values `v`. Between two models they move by
`[v2, v1] @ [W_O2 @ W_U2; -W_O1 @ W_U1]`, whose length over the vocabulary needs only a matrix of `2 d_head` rows and
columns per head, not the logits. A constant over the vocabulary changes no probability and is left out. Knows arrays;
knows nothing about models, tokens or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 4096
"""Rows of the unembedding, and words, that are in memory as float64 at once."""

ROUNDING = 1e-6
"""Movement, as a share of the logits' own spread, up to which nothing has moved: inputs are rounded to float32."""


def vocabulary_products(first: Tensor, second: Tensor) -> Tensor:
    """Mean over the vocabulary of the products of two unembeddings, without their means.

    Args:
        first, second: Float[Tensor, "d_vocab d_model"].

    Returns:
        Float64[Tensor, "d_model d_model"]; `a @ result @ b` is the covariance of the logits of `a` in the first and of
        `b` in the second.
    """
    import torch

    result = torch.zeros(first.shape[1], second.shape[1], dtype=torch.float64, device=first.device)
    of_first, of_second = (_mean(each) for each in (first, second))
    for one, two in zip(first.split(ROWS), second.split(ROWS), strict=True):
        result += (one.double() - of_first).T @ (two.double() - of_second)
    return result / len(first)


def _mean(rows: Tensor) -> Tensor:
    import torch

    return torch.stack([part.double().sum(0) for part in rows.split(ROWS)]).sum(0) / len(rows)


def movement(
    values: tuple[Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    products: tuple[Tensor, Tensor, Tensor],
    kv_head_of: Sequence[int],
) -> Tensor:
    """The standard deviation over the vocabulary of what is added to each word's logits, from one model to the other.

    Args:
        values: of each word in both models, each Float[Tensor, "n_kv_heads n_words d_head"].
        outputs: W_O of both models, each Float[Tensor, "n_heads d_head d_model"].
        products: `vocabulary_products` of the first unembedding with itself, of the first with the second, and of the
            second with itself.
        kv_head_of: the kv head that each head reads, of length n_heads.

    Returns:
        Float64[Tensor, "n_heads n_words"].
    """
    import torch

    of_first, of_both, of_second = products
    moved = []
    for head, kv_head in enumerate(kv_head_of):
        before, after = (each[head].double() for each in outputs)
        across = before @ of_both @ after.T
        gram = torch.cat(
            [
                torch.cat([before @ of_first @ before.T, -across], dim=1),
                torch.cat([-across.T, after @ of_second @ after.T], dim=1),
            ]
        )
        squares = []
        for one, two in zip(values[0][kv_head].split(ROWS), values[1][kv_head].split(ROWS), strict=True):
            both = torch.cat([one, two], dim=1).double()
            change = ((both @ gram) * both).sum(-1)
            own = one.double()
            size = ((own @ gram[: len(before), : len(before)]) * own).sum(-1)
            squares.append(torch.where(change > ROUNDING**2 * size, change, 0))
        moved.append(torch.cat(squares).sqrt())
    return torch.stack(moved)
