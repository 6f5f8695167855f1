"""Whether words are about the same: tokens whose embeddings lie closer together than those of tokens drawn at random.

Closeness is the cosine of two embeddings, less the vocabulary's mean. Two tokens are *close* when their cosine exceeds
that of 99 in 100 pairs drawn at random. Knows vectors and token ids, nothing of heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHARE_CLOSE = 0.01
"""Of pairs of tokens drawn at random, how many are called close."""


class Neighbourhood:
    """Which tokens are close to which.

    Args:
        ids: token ids, ascending.
        vectors: their embeddings, Float[ndarray, "n_ids width"].
        sample: rows of embeddings of tokens drawn at random, Float[ndarray, "n_sample width"], at least 2.
    """

    def __init__(self, ids: np.ndarray, vectors: np.ndarray, sample: np.ndarray) -> None:
        import numpy as np

        mean = sample.mean(0)
        self._ids, self._unit = ids, _unit(vectors - mean)
        unit = _unit(sample - mean)
        cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
        self.least = float(np.quantile(cosines, 1 - SHARE_CLOSE))

    def cosines(self, first: list[int], second: list[int]) -> np.ndarray:
        """Of every token of the one list with every one of the other: Float[ndarray, "n_first n_second"]."""
        return self._of(first) @ self._of(second).T

    def _of(self, ids: list[int]) -> np.ndarray:
        import numpy as np

        return self._unit[np.searchsorted(self._ids, np.asarray(ids, dtype=np.int64))]


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
