"""Where heads look: shares of attention on the tokens that a behaviour names, and what shuffled attention would give.

Arrays in, arrays out; knows no model. The share of a behaviour is `mean over rows i of sum over j in M_i of a_ij`, with
the attention `a_ij` of token `i` on token `j` and the matching tokens `M_i`; rows without one are not counted.

The first token takes what a head does not use elsewhere (a sink), as do sinks that are parameters of a model. So they
match `sink` alone, and stay in their place when the attention of a row is shuffled over the `n_i` other tokens that the
row may see. With `m_i` of them matching, `t_i = sum of a_ij` and `v_i = variance of a_ij` over them, the expected share
of the row is `t_i m_i / n_i` and its variance `v_i m_i (n_i - m_i) / (n_i - 1)`. For `sink` all are shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NEAR, MIDDLE = 8, 64
"""Farthest tokens that count as near and as middle; those behind are long."""

SINK = "sink"
ON_RANDOM = ("previous", "induction", "duplicate", SINK, "self")
"""Behaviours on repeated random tokens."""

ON_TEXT = ("previous", "induction", "same_word", SINK, "self", "near", "middle", "long", "local", "delimiter")
"""Behaviours on ordinary text. `self`, `previous`, `near`, `middle`, `long` and `sink` add up to 1; `local` is
`previous` and `near` together."""

LEAST_SINK = 1e-3
"""A row whose attention adds up to less than 1 by this has left the rest to a sink that is a parameter."""


@dataclass(frozen=True)
class Sums:
    """What the heads of one layer did in each sequence of a batch.

    Args:
        share, chance: mean over rows, 0 to 1; NaN where no row has a matching token. Float64[ndarray, "sequence head
            behaviour"].
        variance: of the mean over rows, if the attention is shuffled.
        rows: that were counted, Int[ndarray, "sequence behaviour"].
        entropy: mean over rows of the entropy of a row's attention, as a share of the largest possible,
            Float64[ndarray, "sequence head"].
        distance, distance_chance: mean distance in tokens of the attention that is not on a sink, and what shuffled
            attention would give; NaN if all is on sinks.
    """

    share: np.ndarray
    chance: np.ndarray
    variance: np.ndarray
    rows: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray
    distance_chance: np.ndarray


def find_matches(ids: Tensor) -> dict[str, Tensor]:
    """The tokens that each behaviour of ON_RANDOM names, for every token.

    `previous`: the token before. `duplicate`: an earlier copy. `induction`: the token right behind an earlier copy.
    `sink`: the first token. `self`: the token itself.

    Args:
        ids: Int[Tensor, "n_sequences n_tokens"].

    Returns:
        By behaviour, Bool[Tensor, "n_sequences n_tokens n_tokens"]: from token (rows) to token. But for `sink`, no
        first token matches.
    """
    back, same = _back(ids), ids[:, :, None] == ids[:, None]
    copies = same & (back > 0)
    found = {"previous": back == 1, "induction": _behind(copies), "duplicate": copies, "self": back == 0}
    return _in_order(found, ON_RANDOM)


def find_text_matches(ids: Tensor, words: Tensor, delimiters: Tensor) -> dict[str, Tensor]:
    """The tokens that each behaviour of ON_TEXT names, as `find_matches`.

    `near`: 2 to NEAR tokens before; `middle`: up to MIDDLE; `long`: farther. `delimiter`: an earlier delimiter.
    `same_word`: an earlier token of the same word.

    Args:
        words: a number for the word of each token, negative for none, as `ids`.
        delimiters: which tokens are delimiters, as `ids`.
    """
    back, found = _back(ids), find_matches(ids)
    same = (words[:, :, None] == words[:, None]) & (words >= 0)[:, :, None]
    found |= {
        "same_word": same & (back > 0),
        "near": (back > 1) & (back <= NEAR),
        "middle": (back > NEAR) & (back <= MIDDLE),
        "long": back > MIDDLE,
        "local": (back > 0) & (back <= NEAR),
        "delimiter": delimiters[:, None] & (back > 0),
    }
    return _in_order(found, ON_TEXT)


def _back(ids: Tensor) -> Tensor:
    """How many tokens each token is behind each other one, for all sequences."""
    import torch

    at = torch.arange(ids.shape[1])
    return (at[:, None] - at).expand(len(ids), -1, -1)


def _behind(copies: Tensor) -> Tensor:
    """The tokens right behind those that match, before the row's own."""
    import torch

    moved = torch.zeros_like(copies)
    moved[:, :, 1:] = copies[:, :, :-1]
    return moved.tril(-1)


def _in_order(matches: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    """The matches by name: for the sink the first token, for all other behaviours the others."""
    import torch

    first = torch.zeros_like(matches["self"])
    first[:, :, 0] = True
    return {name: first if name == SINK else matches[name] & ~first for name in names}


def measure_rows(attention: Tensor, visible: Tensor, matches: dict[str, Tensor]) -> Sums:
    """Shares of attention, and their expectation and variance if the attention of each row is shuffled.

    Args:
        attention: of one layer, Float[Tensor, "n_sequences n_heads n_tokens n_tokens"]. If rows add up to less than
            1, the rest is on a sink that is a parameter.
        visible: the tokens that each may see, Bool[Tensor, "n_sequences n_tokens n_tokens"].
        matches: by behaviour, as `find_matches` returns them.
    """
    import torch

    # Numbers of every pair of tokens are float32, one array at a time; those of every row are float64.
    a = attention.float() * visible[:, None]
    first, unspent = a[..., 0].double(), (1 - a.sum(-1).double()).clamp(min=0)
    has_parameter = bool((unspent > LEAST_SINK).any())
    if not has_parameter:
        unspent = torch.zeros_like(unspent)
    entropy = torch.special.entr(a).sum(-1).double() + torch.special.entr(unspent)
    others = visible.clone()
    others[:, :, 0] = False
    a[..., 0] = 0
    n = others.sum(-1).double()
    total, squares = a.sum(-1).double(), a.square().sum(-1).double()
    n_sinks = (visible[:, :, 0].long() + int(has_parameter)).double()
    n_all = n + n_sinks
    on = [others & match.to(a.device) for match in matches.values()]
    share = torch.stack([(a * match[:, None].float()).sum(-1) for match in on]).double()
    m = torch.stack([match.sum(-1) for match in on]).double()
    chance, variance = _shuffled(m[:, :, None], n[:, None], total, squares)
    if SINK in matches:
        at = list(matches).index(SINK)
        share[at], m[at] = first + unspent, n_sinks
        both = total + first + unspent, squares + first.square() + unspent.square()
        chance[at], variance[at] = _shuffled(n_sinks[:, None], n_all[:, None], *both)
    later = torch.ones_like(n)
    later[:, 0] = 0
    counted = (m > 0) * later
    rows = counted.sum(-1)
    weight = (counted / rows[..., None])[:, :, None]
    entropy = entropy / torch.where(n_all > 1, n_all, torch.nan).log()[:, None]
    back = torch.arange(a.shape[-1], device=a.device)
    back = (back[:, None] - back) * others * later.bool()[:, :, None]
    spent = (total * later[:, None]).sum(-1)
    distance = (a * back[:, None].float()).sum((-1, -2)).double()
    expected = total * (back.sum(-1) / n.clamp(min=1))[:, None]

    def by_sequence(each: Tensor) -> np.ndarray:
        return each.movedim(0, -1).cpu().numpy()

    return Sums(
        share=by_sequence((share * weight).sum(-1)),
        chance=by_sequence((chance * weight).sum(-1)),
        variance=by_sequence((variance * weight.square()).sum(-1)),
        rows=by_sequence(rows).astype("int64"),
        entropy=entropy[..., 1:].nanmean(-1).cpu().numpy(),
        distance=(distance / spent).cpu().numpy(),
        distance_chance=(expected.sum(-1) / spent).cpu().numpy(),
    )


def _shuffled(m: Tensor, n: Tensor, total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the sum of `m` of `n` numbers, drawn without replacement."""
    n = n.clamp(min=1)
    mean = total / n
    spread = (squares / n - mean.square()).clamp(min=0)
    return m * mean, spread * m * (n - m) / (n - 1).clamp(min=1)


def p_values(excess: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Upper bound of the probability that shuffled attention exceeds its expectation by at least so much.

    Bernstein's inequality for independent rows, each of which differs from its expectation by at most 1:
    `exp(-t^2 / (2 (variance + weight t / 3)))` for an excess `t` of their weighted mean.

    Args:
        excess: share minus chance.
        variance: of the weighted mean, if the attention is shuffled.
        weight: the largest weight of a row.

    >>> import numpy as np
    >>> p_values(np.array([0.0, 0.2]), np.array([1e-3, 1e-3]), np.array([0.01, 0.01])).round(6)
    array([1.e+00, 6.e-06])
    """
    import numpy as np

    t = np.maximum(excess, 0)
    below = 2 * (variance + weight * t / 3)
    return np.exp(-np.divide(t * t, below, out=np.zeros_like(t), where=below > 0))


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over sequences and its 95 % interval by Student's t; NaN where there are no values, or only one.

    Args:
        values: by sequence first; NaN is left out.
    """
    import numpy as np
    from scipy.stats import t

    known = ~np.isnan(values)
    n = known.sum(0)
    total = np.where(known, values, 0).sum(0)
    mean = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    squares = np.where(known, (values - mean) ** 2, 0).sum(0)
    error = np.sqrt(np.divide(squares, n * (n - 1.0), out=np.full(total.shape, np.nan), where=n > 1))
    half = t.ppf(0.975, np.maximum(n - 1, 1)) * error
    return mean, mean - half, mean + half
