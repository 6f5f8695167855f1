"""What a map shows, computed instead of guessed from the picture.

Every test is named where it is made; random draws are seeded, so that the same atlas gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from headatlas.atlas import Atlas
from headatlas.categories import Classification, classify

if TYPE_CHECKING:
    import numpy as np

DRAWS = 9999
"""Random draws of a permutation test; its smallest p-value is 1 / (DRAWS + 1)."""

FAR = 4
"""A category's first (last) head stands apart when at least this many layers lie between it and the next."""


@dataclass(frozen=True)
class Span:
    """Where a category lies in the layers, counted from 0; None where no head has it.

    Args:
        first, last: layers of its first and last head.
        quartiles: layers before or at which a quarter, half and three quarters of its heads lie.
        densest: layers with most of its heads, all that tie; `most` is that number.
    """

    category: str
    n_heads: int
    first: int | None
    quartiles: tuple[int, int, int] | None
    last: int | None
    densest: tuple[int, ...]
    most: int


@dataclass(frozen=True)
class Boundary:
    """The layer that best divides early from late.

    Args:
        category: None for heads with any category.
        layer: the first late layer; None where nothing can be tested (one layer, or no head or all heads).
        early, late: share of heads with the category on both sides.
        statistic: likelihood ratio of two binomial rates against one, at its maximum over the boundaries.
        p: share of permutations of the layers with a maximum at least as large.
        p_adjusted: after Holm, over all boundaries of the report.
    """

    category: str | None
    layer: int | None
    early: float
    late: float
    statistic: float
    p: float
    p_adjusted: float


@dataclass(frozen=True)
class Meeting:
    """How many heads have both of two categories, against what would be expected.

    Args:
        expected: if the heads of each category were spread over all heads.
        p: Fisher's exact test on all heads, two-sided; `p_adjusted` after Holm over all pairs.
        expected_in_layers: if they were spread only within their own layers.
        p_in_layers: exact, two-sided, from the sum over layers of hypergeometric counts; adjusted likewise.
    """

    pair: tuple[str, str]
    observed: int
    expected: float
    p: float
    p_adjusted: float
    expected_in_layers: float
    p_in_layers: float
    p_in_layers_adjusted: float


@dataclass(frozen=True)
class Arrangement:
    """Whether a category follows layers (a band), head numbers (a row) or key-value groups.

    Args:
        by_layer, by_head: share of the deviance of "has the category" that layers (head numbers) explain, 0 to 1.
        by_layer_chance, by_head_chance: the mean of that share when the heads are spread at random.
        p_layer, p_head: share of such random spreads that explain at least as much.
        group_pairs: pairs of heads in one key-value group that both have it; None where groups are unknown or trivial.
        group_pairs_chance: expected when heads are shuffled within their layers; `p_group` one-sided.
    """

    category: str
    by_layer: float
    by_layer_chance: float
    p_layer: float
    by_head: float
    by_head_chance: float
    p_head: float
    group_pairs: int | None
    group_pairs_chance: float | None
    p_group: float | None


@dataclass(frozen=True)
class Analysis:
    """All that the report tells; places of heads are (layer, head)."""

    classification: Classification
    spans: tuple[Span, ...]
    boundaries: tuple[Boundary, ...]
    meetings: tuple[Meeting, ...]
    arrangements: tuple[Arrangement, ...]
    busiest: tuple[tuple[tuple[int, int], int], ...]
    """Heads that implement most relations, and how many; at most five, those with two or more."""
    lone: tuple[tuple[str, tuple[int, int]], ...]
    """Relations that exactly one head implements, and that head."""
    apart: tuple[tuple[str, tuple[int, int], int], ...]
    """Heads that lie FAR or more layers before or after all others of their category, and by how many."""
    both: tuple[tuple[str, tuple[int, int]], ...]
    """Relations that a head both promotes and suppresses above the threshold."""
    unimplemented: tuple[str, ...]
    """Measured relations that no head implements."""


def analyse(atlas: Atlas, threshold: str | float | None = None, kind: str = "score", seed: int = 0) -> Analysis:
    """Compute what the map of an atlas shows.

    Args:
        threshold: strict limit, 0 to 1; default: the atlas's own.
        kind: `score` or `suppression`.
        seed: of the permutation tests.
    """
    found = classify(atlas, threshold, kind)
    n_kv_heads = atlas.manifest["model"].get("n_kv_heads")
    return Analysis(
        classification=found,
        spans=tuple(_span(category, found.of(category)) for category in found.categories),
        boundaries=_boundaries(found, seed),
        meetings=_meetings(found),
        arrangements=tuple(
            _arrangement(category, found.of(category), n_kv_heads, seed)
            for category in found.categories
            if found.of(category).any()
        ),
        busiest=_busiest(found),
        lone=_lone(found, atlas.relations),
        apart=tuple(row for category in found.categories for row in _apart(category, found.of(category))),
        both=_both(atlas, found.threshold),
        unimplemented=tuple(
            name for name, heads in zip(atlas.relations, found.implements, strict=True) if not heads.any()
        ),
    )


def best_boundary(counts: np.ndarray, n_heads: int) -> tuple[int, float]:
    """The boundary with the largest two-rate binomial likelihood ratio, the first where several tie.

    `LR(b) = 2 (ll(early) + ll(late) - ll(all))` with `ll(k of n) = k log(k/n) + (n-k) log(1-k/n)`.

    Args:
        counts: heads with the category in each layer, Int[ndarray, "... n_layers"].
        n_heads: heads per layer.

    Returns:
        The first late layer, and the ratio there (arrays where `counts` has leading dimensions).
    """
    import numpy as np

    n_layers = counts.shape[-1]
    early = counts.cumsum(-1)[..., :-1]
    total = counts.sum(-1, keepdims=True)
    n_early = np.arange(1, n_layers) * n_heads
    n_all = n_layers * n_heads
    ratio = 2 * (_loglik(early, n_early) + _loglik(total - early, n_all - n_early) - _loglik(total, n_all))
    # Mirror images differ by rounding; the first of equal boundaries must be the same everywhere.
    ratio = ratio.round(9)
    return ratio.argmax(-1) + 1, ratio.max(-1)


def overlap_in_layers(a: np.ndarray, b: np.ndarray, n_heads: int) -> np.ndarray:
    """Exact distribution of the number of heads with both of two categories, spread at random within each layer.

    Args:
        a, b: heads with each category by layer, Int[ndarray, "n_layers"].

    Returns:
        Probability of 0, 1, 2, ... such heads.
    """
    import numpy as np
    from scipy.stats import hypergeom

    distribution = np.ones(1)
    for in_a, in_b in zip(a, b, strict=True):
        layer = hypergeom.pmf(np.arange(min(in_a, in_b) + 1), n_heads, in_a, in_b)
        distribution = np.convolve(distribution, layer)
    return distribution


def holm(p: list[float]) -> list[float]:
    """P-values adjusted for their number by Holm's method, in the order given."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, number in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[number]))
        adjusted[number] = largest
    return adjusted


def _loglik(k, n):
    from scipy.special import xlogy

    return xlogy(k, k) + xlogy(n - k, n - k) - xlogy(n, n)


def _span(category: str, has: np.ndarray) -> Span:
    import numpy as np

    counts = has.sum(1)
    n = int(counts.sum())
    if not n:
        return Span(category, 0, None, None, None, (), 0)
    layers = np.repeat(np.arange(len(counts)), counts)
    quartiles = tuple(int(layers[int(np.ceil(n * share)) - 1]) for share in (0.25, 0.5, 0.75))
    densest = tuple(int(layer) for layer in np.flatnonzero(counts == counts.max()))
    return Span(category, n, int(layers[0]), quartiles, int(layers[-1]), densest, int(counts.max()))  # type: ignore[arg-type]


def _boundaries(found: Classification, seed: int) -> tuple[Boundary, ...]:
    import numpy as np

    rows = [(None, found.count > 0), *((category, found.of(category)) for category in found.categories)]
    tested = []
    for category, has in rows:
        counts, n_heads = has.sum(1), has.shape[1]
        if len(counts) < 2 or has.all() or not has.any():
            tested.append((category, None, 0.0, 0.0, 0.0, 1.0))
            continue
        layer, statistic = best_boundary(counts, n_heads)
        generator = np.random.default_rng(seed)
        shuffled = generator.permuted(np.tile(counts, (DRAWS, 1)), axis=1)
        _, chance = best_boundary(shuffled, n_heads)
        p = (1 + np.count_nonzero(chance >= statistic)) / (DRAWS + 1)
        tested.append((category, int(layer), float(has[:layer].mean()), float(has[layer:].mean()), float(statistic), p))
    testable = [number for number, row in enumerate(tested) if row[1] is not None]
    adjusted = dict(zip(testable, holm([tested[number][-1] for number in testable]), strict=True))
    return tuple(Boundary(*row, p_adjusted=adjusted.get(number, 1.0)) for number, row in enumerate(tested))


def _meetings(found: Classification) -> tuple[Meeting, ...]:
    import numpy as np
    from scipy.stats import fisher_exact

    rows = []
    n_heads = found.count.shape[1]
    for first, second in combinations(found.categories, 2):
        a, b = found.of(first), found.of(second)
        if not a.any() or not b.any():
            continue
        observed = int((a & b).sum())
        only_a, only_b = int(a.sum()) - observed, int(b.sum()) - observed
        neither = a.size - observed - only_a - only_b
        _, p = fisher_exact([[observed, only_a], [only_b, neither]])
        distribution = overlap_in_layers(a.sum(1), b.sum(1), n_heads)
        # As Fisher's: all outcomes that are no likelier than the observed one.
        p_in_layers = float(distribution[distribution <= distribution[observed] * (1 + 1e-7)].sum())
        expected_in_layers = float(np.arange(len(distribution)) @ distribution)
        rows.append(
            ((first, second), observed, float(a.sum() * b.sum() / a.size), p, expected_in_layers, min(1.0, p_in_layers))
        )
    adjusted, adjusted_in_layers = holm([row[3] for row in rows]), holm([row[5] for row in rows])
    return tuple(
        Meeting(pair, observed, expected, p, adjusted[number], in_layers, p_in_layers, adjusted_in_layers[number])
        for number, (pair, observed, expected, p, in_layers, p_in_layers) in enumerate(rows)
    )


def _arrangement(category: str, has: np.ndarray, n_kv_heads: int | None, seed: int) -> Arrangement:
    import numpy as np

    generator = np.random.default_rng(seed)
    n_layers, n_heads = has.shape
    total = int(has.sum())
    shares = []
    for counts, n_each in ((has.sum(1), n_heads), (has.sum(0), n_layers)):
        # What remains of the deviance when every layer (head number) has a rate of its own.
        whole = -_loglik(total, has.size)
        if not whole:
            shares.append((0.0, 0.0, 1.0))
            continue
        chance = generator.multivariate_hypergeometric(
            [n_each] * len(counts), total, size=DRAWS, method="count" if has.size < 50_000 else "marginals"
        )
        explained = 1 + _loglik(counts, n_each).sum() / whole
        by_chance = 1 + _loglik(chance, n_each).sum(1) / whole
        p = (1 + int((by_chance >= explained - 1e-12).sum())) / (DRAWS + 1)
        shares.append((float(explained), float(by_chance.mean()), p))
    groups: tuple = (None, None, None)
    if n_kv_heads and 1 < n_heads // n_kv_heads < n_heads:
        groups = _in_groups(has, n_kv_heads, generator)
    return Arrangement(category, *shares[0], *shares[1], *groups)


def _in_groups(has: np.ndarray, n_kv_heads: int, generator: np.random.Generator) -> tuple[int, float, float]:
    """Pairs of heads of one key-value group that both have the category; heads shuffled within layers as chance."""
    import numpy as np

    n_layers, n_heads = has.shape
    size = n_heads // n_kv_heads

    def count(heads: np.ndarray) -> np.ndarray:
        in_group = heads.reshape(*heads.shape[:-2], n_layers, n_kv_heads, size).sum(-1)
        return (in_group * (in_group - 1) // 2).sum((-1, -2))

    observed = int(count(has))
    in_layer = has.sum(1)
    expected = float((in_layer * (in_layer - 1) / 2).sum() * (size - 1) / (n_heads - 1))
    busy = has[in_layer > 0]
    at_least = 0
    n_layers = len(busy)
    for _ in range(0, DRAWS, 333):
        drawn = generator.permuted(np.broadcast_to(busy, (333, *busy.shape)), axis=-1)
        at_least += int((count(drawn) >= observed).sum())
    draws = len(range(0, DRAWS, 333)) * 333
    return observed, expected, (1 + at_least) / (draws + 1)


def _busiest(found: Classification) -> tuple[tuple[tuple[int, int], int], ...]:
    counts = found.implements.sum(0)
    places = sorted(zip(*counts.nonzero(), strict=True), key=lambda place: (-counts[place], place))
    return tuple(
        ((int(layer), int(head)), int(counts[layer, head])) for layer, head in places if counts[layer, head] > 1
    )[:5]


def _lone(found: Classification, relations: list[str]) -> tuple[tuple[str, tuple[int, int]], ...]:
    rows = []
    for name, heads in zip(relations, found.implements, strict=True):
        layers, numbers = heads.nonzero()
        if len(layers) == 1:
            rows.append((name, (int(layers[0]), int(numbers[0]))))
    return tuple(rows)


def _apart(category: str, has: np.ndarray) -> list[tuple[str, tuple[int, int], int]]:
    layers, heads = has.nonzero()
    rows = []
    if len(layers) >= 3:
        for end, beside in ((0, 1), (-1, -2)):
            distance = abs(int(layers[end]) - int(layers[beside]))
            if distance >= FAR:
                rows.append((category, (int(layers[end]), int(heads[end])), distance))
    return rows


def _both(atlas: Atlas, threshold: str) -> tuple[tuple[str, tuple[int, int]], ...]:
    if not atlas.has_suppression:
        return ()
    relation, layer, head = (atlas.above(threshold) & atlas.above(threshold, "suppression")).nonzero()
    return tuple(
        (atlas.relations[number], (int(row), int(column)))
        for number, row, column in zip(relation, layer, head, strict=True)
    )
