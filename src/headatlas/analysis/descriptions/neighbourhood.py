"""Related words: tokens whose embeddings are closer to each other than those of random tokens.

Closeness is the cosine of two embeddings, minus the mean embedding and the directions that all embeddings share most
(such as that of frequent words), along which words would be close without a topic. Two tokens are *close* if their
cosine exceeds that of 99 in 100 random pairs. This module knows vectors and token ids; it knows no heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHARE_CLOSE = 0.01
"""Share of random pairs of tokens that count as close."""

SHARED_DIRECTIONS = 5
"""Principal components of the sample that are left out; fewer in a small sample."""


class Neighbourhood:
    """Closeness of tokens.

    Args:
        ids: token ids, ascending.
        vectors: their embeddings, Float[ndarray, "n_ids width"].
        sample: embeddings of at least two random tokens, Float[ndarray, "n_sample width"].

    Attributes:
        least: two tokens are close if their cosine exceeds this.
        sample_close: which tokens of the sample are close to each other, Bool[ndarray, "n_sample n_sample"].
    """

    def __init__(self, ids: np.ndarray, vectors: np.ndarray, sample: np.ndarray) -> None:
        import numpy as np

        mean = sample.mean(0)
        n_shared = min(SHARED_DIRECTIONS, len(sample) // 20)
        shared = np.linalg.svd(sample - mean, full_matrices=False)[2][:n_shared]
        self._ids, self._unit = ids, _unit(_without(vectors - mean, shared))
        unit = _unit(_without(sample - mean, shared))
        cosines = unit @ unit.T
        self.least = float(np.quantile(cosines[np.triu_indices(len(unit), 1)], 1 - SHARE_CLOSE))
        self.sample_close = cosines > self.least

    def cosines(self, first: list[int], second: list[int]) -> np.ndarray:
        """The cosines of all tokens of one list with all of another: Float[ndarray, "n_first n_second"]."""
        return self._of(first) @ self._of(second).T

    def _of(self, ids: list[int]) -> np.ndarray:
        import numpy as np

        return self._unit[np.searchsorted(self._ids, np.asarray(ids, dtype=np.int64))]


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _without(vectors: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return vectors - (vectors @ directions.T) @ directions
