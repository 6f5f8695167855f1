"""The score that a head would have if a relation's pairs were shuffled, and how unlikely its hits then are.

D is the matrix of hits of all sources of a relation with all its targets. Re-pairing gives pair i the target of pair
p(i), with p a random permutation of the n pairs. The expected score is the mean of D over all n x n cells.

This module knows arrays; it knows neither models nor words.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from headatlas.scoring.cell_search import CellSearch
from headatlas.scoring.questions import CellBlock
from headatlas.settings import MIN_UNCOPIED

if TYPE_CHECKING:
    from headatlas.scoring.layer_heads import LayerHeads
    from headatlas.scoring.rank_search import RankSearch

RE_PAIRINGS = 4
"""Random re-pairings behind a chance level that is not exact."""

FEWEST_HITS = 3
"""Hits from which on a chance level is exact and a p-value is computed; with fewer hits, the p-value is 1."""

LARGEST_MATRIX = 16_000_000
"""Cells (sources x targets) of the largest relation whose matrix is computed; a larger relation gets re-pairings only,
and the p-value 1."""


@dataclass(frozen=True)
class Chance:
    """Chance levels of a layer by side (promoted, suppressed), relation and head: arrays (2, n_relations, n_heads).

    Args:
        level: expected score, 0 to 1.
        exact: whether the level is the mean over all cells, not an estimate from random re-pairings.
        p_value: upper bound on the probability of as many hits or more, 0 to 1.
        uncopied_level, uncopied_p_value: the same among the pairs that copying misses; NaN and 1 if these are fewer
            than MIN_UNCOPIED, or if `level` is not exact. None if it was not said which pairs copying hits.
    """

    level: np.ndarray
    exact: np.ndarray
    p_value: np.ndarray
    uncopied_level: np.ndarray | None = None
    uncopied_p_value: np.ndarray | None = None


class _Pairs:
    """Pairs of a relation as cells of its matrix D of distinct sources (rows) and targets (columns).

    Args:
        row, column: of each pair, Int[ndarray, "n_pairs"].
        shape: rows and columns of D.
    """

    def __init__(self, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> None:
        self.row, self.column, self.shape = row, column, shape
        self.of_source, self.of_target = np.bincount(row, minlength=shape[0]), np.bincount(column, minlength=shape[1])

    def chosen(self, which: np.ndarray) -> _Pairs:
        return _Pairs(self.row[which], self.column[which], self.shape)

    def level(self, rows: np.ndarray, columns: np.ndarray) -> float:
        """The mean of D over all combinations, from its cells that are hits, given as distinct (row, column)."""
        return int((self.of_source[rows] * self.of_target[columns]).sum()) / len(self.row) ** 2

    def p_value(self, rows: np.ndarray, columns: np.ndarray, hits: int) -> float:
        """The smaller bound of rows and columns, from the same cells."""
        in_row = np.bincount(rows, self.of_target[columns], self.shape[0])[self.row]
        in_column = np.bincount(columns, self.of_source[rows], self.shape[1])[self.column]
        return min(p_value_bound(in_row, hits), p_value_bound(in_column, hits))


class _Relation:
    """A relation's matrix: its distinct sources and targets, its pairs, and the cells drawn."""

    def __init__(self, search: RankSearch, pairs: slice) -> None:
        source, target = search.source[pairs].cpu().numpy(), search.target[pairs].cpu().numpy()
        self.n_pairs = len(source)
        self.k = int(search.k[pairs][0])
        self.sources, self.row = np.unique(source, return_inverse=True)
        self.targets, self.column = np.unique(target, return_inverse=True)
        self.pairs = _Pairs(self.row, self.column, (len(self.sources), len(self.targets)))
        self.n_columns = len(self.targets)
        self.has_matrix = len(self.sources) * self.n_columns <= LARGEST_MATRIX
        self.always_exact = self.has_matrix and self.n_columns <= RE_PAIRINGS
        # The seed depends on this relation's pairs only, so that its re-pairings are the same in every run.
        sorted_pairs = np.lexsort((self.column, self.row))
        row, column = self.row[sorted_pairs], self.column[sorted_pairs]
        ids = search.targets.cpu().numpy()[self.targets].astype("int64")
        seed = hashlib.sha256(row.tobytes() + column.tobytes() + ids.tobytes()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed[:8], "little")))
        order = np.concatenate([generator.permutation(self.n_pairs) for _ in range(RE_PAIRINGS)])
        cells = np.tile(row, RE_PAIRINGS) * self.n_columns + column[order]
        self.drawn, self.times = np.unique(cells, return_counts=True)


class ChanceLevels:
    """Chance levels of every head of a layer for every relation.

    Args:
        search: for the pairs of all relations, one relation after the other.
        ends: the first pair of each relation, and the number of pairs: n_relations + 1 numbers.
    """

    def __init__(self, search: RankSearch, ends: Sequence[int]) -> None:
        self._ends = list(ends)
        self._relations = [_Relation(search, slice(*bounds)) for bounds in itertools.pairwise(ends)]
        device = search.W_U.device
        blocks = [
            CellBlock(
                source=torch.from_numpy(each.sources).to(device),
                target=torch.from_numpy(each.targets).to(device),
                drawn=torch.from_numpy(each.drawn).to(device),
                k=each.k,
            )
            for each in self._relations
        ]
        self._cells = CellSearch(search, blocks)

    def layer(self, heads: LayerHeads, is_hit: np.ndarray, copied: np.ndarray | None = None) -> Chance:
        """Chance levels of all heads of one layer.

        Args:
            is_hit: of each side, head and pair, Bool[ndarray, "2 n_heads n_pairs"].
            copied: the pairs that copying hits, Bool[ndarray, "n_pairs"].
        """
        hits = self._count(is_hit)
        missed = np.zeros(is_hit.shape[-1], bool) if copied is None else ~copied
        uncopied_hits = self._count(is_hit & missed)
        uncopied = [each.pairs.chosen(part) for each, part in zip(self._relations, self._split(missed), strict=True)]
        uncopied_level, uncopied_p_value = np.full(hits.shape, np.nan), np.ones(hits.shape)
        always = np.array([each.always_exact for each in self._relations])
        possible = np.array([each.has_matrix for each in self._relations])
        exact = possible[:, None] & (always[:, None] | (hits >= FEWEST_HITS))
        level, p_value = np.zeros(hits.shape), np.ones(hits.shape)
        open_cells = self._cells.candidates(heads, torch.from_numpy(exact))
        found_cells = self._cells.decide(heads, open_cells)
        for head, (of_head, found) in enumerate(zip(open_cells, found_cells, strict=True)):
            cells = of_head.chosen(found.nonzero()[:, 0])
            block, sides, row, column = (
                each.cpu().numpy() for each in (cells.block, cells.side, cells.row, cells.column)
            )
            order = np.lexsort((sides, block))
            key = (block * 2 + sides)[order]
            for number, relation in enumerate(self._relations):
                for side in (0, 1):
                    first, last = np.searchsorted(key, (number * 2 + side, number * 2 + side + 1))
                    rows, columns = row[order[first:last]], column[order[first:last]]
                    place = side, number, head
                    if exact[place]:
                        level[place] = relation.pairs.level(rows, columns)
                        p_value[place] = relation.pairs.p_value(rows, columns, int(hits[place]))
                        if len((rest := uncopied[number]).row) >= MIN_UNCOPIED:
                            uncopied_level[place] = rest.level(rows, columns)
                            uncopied_p_value[place] = rest.p_value(rows, columns, int(uncopied_hits[place]))
                    else:
                        drawn = np.searchsorted(relation.drawn, rows * relation.n_columns + columns)
                        level[place] = int(relation.times[drawn].sum()) / (RE_PAIRINGS * relation.n_pairs)
        if copied is None:
            return Chance(level, exact, p_value)
        return Chance(level, exact, p_value, uncopied_level, uncopied_p_value)

    def _split(self, of_pairs: np.ndarray) -> list[np.ndarray]:
        """What belongs to each relation's pairs."""
        return np.split(of_pairs, self._ends[1:-1], axis=-1)

    def _count(self, is_hit: np.ndarray) -> np.ndarray:
        """Hits of each side, relation and head: Int[ndarray, "2 n_relations n_heads"]."""
        return np.stack([part.sum(-1, dtype=np.int64) for part in self._split(is_hit)], axis=1)


def p_value_bound(sums: np.ndarray, hits: int) -> float:
    """Upper bound on P(X >= hits), X the number of hits of a random re-pairing, from the row (or column) sums of D.

    P(X >= m) <= E[C(X, j)] / C(m, j) for each j <= m (Markov), and E[C(X, j)] = r_j (n-j)!/n! with r_j the number of
    ways to choose j hits of D in different rows and columns. Without the condition on the columns, that is at most
    e_j(sums), the elementary symmetric polynomial: j rows, and one hit in each. The result is the least bound over j.

    Args:
        sums: hits in each of the n rows of D, one row per pair, Float[ndarray, "n_pairs"].
        hits: observed, 0 to n_pairs.

    >>> round(p_value_bound(np.ones(6), 6) * math.factorial(6), 6)  # one hit in each row: one of 720 orders
    1.0
    """
    from scipy.special import gammaln

    n = len(sums)
    if hits == 0:
        return 1.0
    if hits > np.count_nonzero(sums):
        return 0.0
    log_e = _log_symmetric_polynomials(sums[sums > 0], hits)
    j = np.arange(hits + 1)
    log_moment = log_e + gammaln(n - j + 1) - gammaln(n + 1)
    log_choices = gammaln(hits + 1) - gammaln(j + 1) - gammaln(hits - j + 1)
    # Rounding must not make a bound too small, nor turn a very small probability into zero.
    return min(1.0, max(math.exp(min(0.0, float((log_moment - log_choices).min()))) * (1 + 1e-9), 1e-300))


def _log_symmetric_polynomials(values: np.ndarray, highest: int) -> np.ndarray:
    """Logarithms of e_0, ..., e_highest of positive values: Float[ndarray, "highest+1"]; infinite if not known."""
    # Scaled so that no sum overflows: e_j(values) = e_j(values / scale) * scale**j. Terms that underflow are not known.
    scale = max(1.0, float(values.sum()) / 300)
    e = np.zeros(highest + 1)
    e[0] = 1.0
    for value in values / scale:
        e[1:] += e[:-1] * value
    known = e > 1e-290
    return np.where(known, np.log(np.where(known, e, 1.0)) + np.arange(highest + 1) * math.log(scale), np.inf)
