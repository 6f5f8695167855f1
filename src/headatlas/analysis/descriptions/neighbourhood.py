"""Related words: tokens whose embeddings are closer to each other than those of random tokens.

Closeness is the cosine of two embeddings, minus the mean embedding. Two tokens are *close* if their cosine exceeds that
of 99 in 100 random pairs. This module knows vectors and token ids; it knows no heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHARE_CLOSE = 0.01
"""Share of random pairs of tokens that count as close."""


class Neighbourhood:
    """Closeness of tokens.

    Args:
        ids: token ids, ascending.
        vectors: their embeddings, Float[ndarray, "n_ids width"].
        sample: embeddings of at least two random tokens, Float[ndarray, "n_sample width"].

    Attributes:
        least: two tokens are close if their cosine exceeds this.
    """

    def __init__(self, ids: np.ndarray, vectors: np.ndarray, sample: np.ndarray) -> None:
        import numpy as np

        mean = sample.mean(0)
        self._ids, self._unit = ids, _unit(vectors - mean)
        unit = _unit(sample - mean)
        cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
        self.least = float(np.quantile(cosines, 1 - SHARE_CLOSE))

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
