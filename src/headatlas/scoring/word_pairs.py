"""What heads look for, word by word: preferences and pairs, and how far they agree with attention on text.

Arrays in, arrays out; knows no model. A score before the softmax of query word `q` for key word `k` is taken apart as
`s_qk = mean over k of s_qk + preference_k + pair_qk`: what a query adds to all keys changes no attention, the
preference is looked for whoever asks (mean 0 over keys), and the pair is what this query looks for more than others do
(mean 0 over queries, and over keys). All are natural logarithms: attention of `e` times as much is 1.

On text, scores of the tokens are taken apart in the same way, together with what the distance of two tokens adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 4
"""Of taking off the means of rows, columns and distances in turn; not all words see each other in a text."""

FLAT = 1e-4
"""Root mean square of logarithms below which they are rounding, and agree with nothing."""


def take_apart(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Preferences and pairs of a layer: Float[Tensor, "n_heads n_words"], Float[Tensor, "n_heads n_words n_words"].

    Args:
        scores: before the softmax, of each query (rows) for each key, Float[Tensor, "n_heads n_words n_words"].

    >>> import torch
    >>> preference, pair = take_apart(torch.tensor([[[5.0, 1.0], [2.0, 2.0]]]))
    >>> preference.tolist(), pair.tolist()
    ([[1.0, -1.0]], [[[1.0, -1.0], [-1.0, 1.0]]])
    """
    scores = scores - scores.mean(-1, keepdim=True)
    preference = scores.mean(1)
    return preference, scores - preference[:, None]


def strongest_keys(values: Tensor, n_keys: int) -> tuple[Tensor, Tensor]:
    """The highest values of the last dimension and their places, the highest first; of equal ones the first."""
    import torch

    order = torch.argsort(values, dim=-1, descending=True, stable=True)[..., :n_keys]
    return values.gather(-1, order), order


def strongest_pairs(pairs: Tensor, n_queries: int, n_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """The queries that look for something most, by the mean of their highest pairs, and the keys that they look for.

    Args:
        pairs: Float[Tensor, "n_heads n_words n_words"].

    Returns:
        The queries, Int[Tensor, "n_heads n_queries"]; their pairs and keys, (n_heads, n_queries, n_keys) each.
    """
    values, keys = strongest_keys(pairs, n_keys)
    _, queries = strongest_keys(values.mean(-1), n_queries)
    at = queries[..., None].expand(-1, -1, values.shape[-1])
    return queries, values.gather(1, at), keys.gather(1, at)


def take_apart_text(scores: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Preferences and pairs of the tokens of a text: Float[Tensor, "n n_tokens"], Float[Tensor, "n n_tokens n_tokens"].

    The means of rows (queries), columns (keys) and distances are taken off in turn; distances of twice the length
    count as one.

    Args:
        scores: of tokens (rows) for earlier ones, Float[Tensor, "n n_tokens n_tokens"].
        seen: pairs that count, Bool[Tensor, "n_tokens n_tokens"]; all else is 0 in the result.
    """
    import torch

    weight = seen.to(scores)
    rows, columns = weight.sum(1).clamp_min(1), weight.sum(0).clamp_min(1)
    at = torch.arange(len(seen), device=scores.device)
    steps = (at[:, None] - at).clamp_min(1).float().log2().floor().long()
    in_step = torch.nn.functional.one_hot(steps.flatten()).to(scores) * weight.flatten()[:, None]
    n_in_step = in_step.sum(0).clamp_min(1)
    rest, preference = scores * weight, torch.zeros_like(scores[:, 0])
    for _ in range(ROUNDS):
        means = (rest.flatten(1) @ in_step) / n_in_step
        rest = rest - (means @ in_step.T).view_as(rest)
        rest = rest - (rest.sum(2) / rows)[:, :, None] * weight
        of_columns = rest.sum(1) / columns
        preference = preference + of_columns
        rest = rest - of_columns[:, None] * weight
    mean = (preference * columns * (weight.sum(0) > 0)).sum(1, keepdim=True) / weight.sum().clamp_min(1)
    return (preference - mean) * (weight.sum(0) > 0), rest


def products(one: Tensor, other: Tensor, weight: Tensor | None = None) -> Tensor:
    """The three sums that a correlation of centred numbers is made of: Float64[Tensor, "3 n"]; 0 if numbers are flat.

    Args:
        one, other: Float[Tensor, "n ..."].
        weight: of each number; default: 1.
    """
    import torch

    one, other = one.double().flatten(1), other.double().flatten(1)
    weighted = one if weight is None else one * weight.double().flatten()
    other_weighted = other if weight is None else other * weight.double().flatten()
    sums = torch.stack([(weighted * other).sum(1), (weighted * one).sum(1), (other_weighted * other).sum(1)])
    n = one.shape[1] if weight is None else weight.sum()
    return sums * ((sums[1] > n * FLAT**2) & (sums[2] > n * FLAT**2))
