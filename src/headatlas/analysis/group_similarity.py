"""Whether heads that share a key-value head implement more alike relations than other heads of their layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.analysis.significance import DRAWS, p_from_draws

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class GroupSimilarity:
    """Similarity of two heads' scores over all relations: their cosine, 0 to 1; 0 for a head without a score.

    Args:
        within: mean over pairs of heads of one layer that share a key-value head.
        between: mean over the other pairs of heads of one layer.
        p_value: permutation test, one-sided: the share of draws with heads shuffled in their layers in which the heads
            of a group are at least as similar.
    """

    within: float
    between: float
    p_value: float


def find_group_similarity(
    scores: np.ndarray, heads_per_group: int | None, seed: int, n_draws: int = DRAWS
) -> GroupSimilarity | None:
    """Compare pairs of heads within key-value groups with pairs between them.

    Args:
        scores: Float[ndarray, "relation layer head"], of layers with heads.
        heads_per_group: neighbouring heads that share a key-value head.

    Returns:
        None unless a layer has several groups of several heads, and heads have scores.
    """
    import numpy as np

    n_layers, n_heads = scores.shape[1:]
    if not heads_per_group or not 1 < heads_per_group < n_heads or not scores.any():
        return None
    group = np.arange(n_heads) // heads_per_group
    i, j = np.triu_indices(n_heads, 1)
    same = group[i] == group[j]
    generator = np.random.default_rng(seed)
    within = between = 0.0
    drawn = np.zeros(n_draws)
    for layer in range(n_layers):
        vectors = scores[:, layer].T
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        similar = vectors @ vectors.T
        within += similar[i, j][same].mean() / n_layers
        between += similar[i, j][~same].mean() / n_layers
        order = generator.permuted(np.tile(np.arange(n_heads), (n_draws, 1)), axis=1)
        drawn += similar[order[:, i[same]], order[:, j[same]]].mean(1) / n_layers
    # Sums in another order differ in their last digits.
    at_least = int((drawn >= within - 1e-12).sum())
    return GroupSimilarity(float(within), float(between), p_from_draws(at_least, n_draws))
