"""Two atlases of any two models, by function: which relations both implement, where, and which heads do the same.

Heads of different models have no common numbering, so they are compared by the words that both models have been asked
for: the pairs of a relation whose words are one token each in both tokenizers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.compare import check_same_choice
from headatlas.atlas import Atlas, head_name
from headatlas.atlas.statistics import benjamini_hochberg
from headatlas.errors import AtlasError
from headatlas.settings import MAX_Q

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FEWEST_HITS = 10
"""A head with fewer hits on the shared pairs is not matched."""

SHUFFLES = 20
"""Draws behind the mean similarity by chance."""

SIDE_OF_HIT = {"score": "promoted", "suppression": "suppressed"}


@dataclass(frozen=True)
class Strongest:
    """The strongest head of a relation in one atlas.

    Args:
        layer, head: the head with the most hits on the shared pairs; None if no head has any.
        score: its share of the shared pairs, 0 to 1.
        depth: of its layer, 0 (first) to 1 (last); None without such a head.
        chance: what it would score if all pairs of its atlas were shuffled, 0 to 1; None if not measured.
        copying: what a head that only copies would score in its layer on all these pairs; None if not measured.
        heads: heads that implement the relation, by the rule and threshold of the comparison, on all their pairs.
    """

    layer: int | None
    head: int | None
    score: float
    depth: float | None
    chance: float | None
    copying: float | None
    heads: int

    @property
    def name(self) -> str | None:
        return None if self.layer is None or self.head is None else head_name(self.layer, self.head)


@dataclass(frozen=True)
class SharedRelation:
    """A relation that both atlases measured.

    Args:
        pairs: that both measured.
    """

    relation: str
    category: str
    pairs: int
    first: Strongest
    second: Strongest


@dataclass(frozen=True)
class Match:
    """A head of the first atlas, and the head of the second that hits the most similar pairs.

    Args:
        first, second: (layer, head).
        similarity: cosine of their hits, 0 to 1: the pairs that both hit, over the geometric mean of what each hits.
        p_value: upper bound on the probability that any head of the second atlas has as many pairs in common if its
            hits fall at random, on each pair as often as those of the other heads.
        q_value: adjusted over all heads that were matched.
        common: pairs that both hit.
        expected_common: the same if each head hit other pairs of the same relations at random.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    similarity: float
    p_value: float
    q_value: float
    common: int
    expected_common: float


@dataclass(frozen=True)
class NullModel:
    """The heads of the first atlas, matched with those of a model without functions, such as one with random weights.

    Args:
        name: of the model.
        heads: its heads with at least FEWEST_HITS hits on the pairs that it shares with the first atlas.
        matched: heads of the first atlas that are matched with one of them beyond chance, q < MAX_Q.
        similarity: mean of the most similar head, over the heads of the first atlas with enough hits; None if no head
            of the null model has enough.
    """

    name: str
    heads: int
    matched: int
    similarity: float | None


@dataclass(frozen=True)
class FunctionComparison:
    """Two atlases by function.

    Args:
        first, second: names of the models.
        side, threshold, rule: how heads were classified, the same for both.
        relations: that both measured, in the first atlas's order.
        only_first, only_second: relations without a shared pair.
        matches: of each head of the first atlas with at least FEWEST_HITS hits, the most similar ones first.
        by_chance: mean similarity of the most similar head if, for each pair, the heads of the second atlas that hit it
            are shuffled.
        null: the same with a model without functions in the place of the second; None if none was given.
    """

    first: str
    second: str
    side: str
    threshold: str
    rule: str
    relations: tuple[SharedRelation, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    matches: tuple[Match, ...]
    by_chance: float | None
    null: NullModel | None = None

    @property
    def matched(self) -> tuple[Match, ...]:
        """Matches beyond chance, q < MAX_Q."""
        return _beyond_chance(self.matches)

    @property
    def similarity(self) -> float | None:
        """Mean similarity of the most similar heads; None if no head is matched."""
        return _mean_similarity(self.matches)

    def as_dict(self) -> dict[str, Any]:
        """The comparison in JSON types."""

        def strongest(found: Strongest) -> dict[str, Any]:
            names = ("score", "depth", "chance", "copying", "heads")
            return {"head": found.name} | {name: getattr(found, name) for name in names}

        return {
            "first": self.first,
            "second": self.second,
            "side": self.side,
            "threshold": self.threshold,
            "rule": self.rule,
            "relations": [
                {
                    "relation": each.relation,
                    "category": each.category,
                    "pairs": each.pairs,
                    "first": strongest(each.first),
                    "second": strongest(each.second),
                }
                for each in self.relations
            ],
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "similarity": self.similarity,
            "similarity_by_chance": self.by_chance,
            "null": None if self.null is None else asdict(self.null),
            "matches": [
                {
                    "first": head_name(*each.first),
                    "second": head_name(*each.second),
                    "similarity": each.similarity,
                    "p": each.p_value,
                    "q": each.q_value,
                    "common": each.common,
                    "expected_common": each.expected_common,
                }
                for each in self.matches
            ],
        }


def compare_functions(
    first: Atlas,
    second: Atlas,
    *,
    side: str = "score",
    threshold: str | float | None = None,
    rule: str | None = None,
    null: Atlas | None = None,
    seed: int = 0,
) -> FunctionComparison:
    """Compare two atlases of any two models by the words that both measured.

    Args:
        side: `score` or `suppression`.
        threshold: strict limit, 0 to 1; default: the atlases' own, which must agree.
        rule: `plain` or `calibrated`; default: the atlases' own, which must agree.
        null: an atlas of a model without functions, such as one with random weights: what matches it finds is chance.
        seed: of the shuffled heads.

    Raises:
        AtlasError: two of the atlases share no words or an atlas does not hold its pairs, or the first two differ in
            threshold or rule.

    >>> found = compare_functions(atlas, atlas)
    >>> [each.similarity for each in found.matches]
    [1.0, 1.0]
    """
    check_same_choice(first, second, {"threshold": threshold, "rule": rule})
    classified = [classify(atlas, threshold, side, rule) for atlas in (first, second)]
    shared = _shared_pairs(first, second)
    hits = [_hits_of(atlas, shared, side) for atlas in (first, second)]
    of_relation = {str(name): part["number"].to_numpy() for name, part in shared.groupby("relation", sort=False)}
    strongest = [
        {name: _strongest(atlas, found, of_atlas, name, pairs, side) for name, pairs in of_relation.items()}
        for atlas, found, of_atlas in zip((first, second), classified, hits, strict=True)
    ]
    relations = tuple(
        SharedRelation(name, str(category), len(of_relation[name]), strongest[0][name], strongest[1][name])
        for name, category in zip(first.relations, first.data["category"].values, strict=True)
        if name in of_relation
    )
    matches, by_chance = _matches(first.n_heads, second.n_heads, hits[0], hits[1], list(of_relation.values()), seed)
    return FunctionComparison(
        first=first.name,
        second=second.name,
        side=side,
        threshold=classified[0].threshold,
        rule=classified[0].rule,
        relations=relations,
        only_first=tuple(name for name in first.relations if name not in of_relation),
        only_second=tuple(name for name in second.relations if name not in of_relation),
        matches=matches,
        by_chance=by_chance,
        null=None if null is None else _null_model(first, null, side, seed),
    )


def _null_model(first: Atlas, null: Atlas, side: str, seed: int) -> NullModel:
    shared = _shared_pairs(first, null)
    hits, of_null = (_hits_of(atlas, shared, side) for atlas in (first, null))
    relations = [part["number"].to_numpy() for _, part in shared.groupby("relation", sort=False)]
    matches, _ = _matches(first.n_heads, null.n_heads, hits, of_null, relations, seed)
    return NullModel(
        name=null.name,
        heads=int((of_null.sum(1) >= FEWEST_HITS).sum()),
        matched=len(_beyond_chance(matches)),
        similarity=_mean_similarity(matches),
    )


def _beyond_chance(matches: tuple[Match, ...]) -> tuple[Match, ...]:
    return tuple(match for match in matches if match.q_value < MAX_Q)


def _mean_similarity(matches: tuple[Match, ...]) -> float | None:
    return sum(match.similarity for match in matches) / len(matches) if matches else None


def _shared_pairs(first: Atlas, second: Atlas) -> pd.DataFrame:
    """The pairs that both measured: relation, source, target, number."""
    tables = []
    for atlas in (first, second):
        if atlas.pairs is None or atlas.pair_hits is None:
            raise AtlasError(
                f"{atlas.name}: expected the pairs that were measured, found none, as in imported scores and atlases "
                f"of earlier versions. Make the map again."
            )
        tables.append(atlas.pairs[["relation", "source", "target"]].drop_duplicates())
    shared = tables[0].merge(tables[1])
    if shared.empty:
        raise AtlasError(
            f"{first.name} and {second.name} cannot be compared: expected relations with pairs of words that both "
            f"measured, found none. Map both with the same relations."
        )
    return shared.assign(number=range(len(shared)))


def _hits_of(atlas: Atlas, shared: pd.DataFrame, side: str) -> np.ndarray:
    """The hits of all heads on the shared pairs: Bool[ndarray, "head_of_model pair"]."""
    import numpy as np

    assert atlas.pair_hits is not None
    of_side = atlas.pair_hits[atlas.pair_hits["side"] == SIDE_OF_HIT[side]]
    found = of_side.merge(shared, on=["relation", "source", "target"])
    hits = np.zeros((atlas.n_layers * atlas.n_heads, len(shared)), dtype=bool)
    hits[found["layer"] * atlas.n_heads + found["head"], found["number"]] = True
    return hits


def _strongest(
    atlas: Atlas, found: Classification, hits: np.ndarray, relation: str, pairs: np.ndarray, side: str
) -> Strongest:
    at = atlas.relations.index(relation)
    counts = hits[:, pairs].sum(1)
    layer, head = (int(place) for place in divmod(counts.argmax(), atlas.n_heads))
    heads = int(found.implements[at].sum())
    if not counts.any():
        return Strongest(None, None, 0.0, None, None, None, heads)
    chance, copied = atlas.chance(side), atlas.copied
    return Strongest(
        layer=layer,
        head=head,
        score=float(counts.max()) / len(pairs),
        depth=layer / max(atlas.n_layers - 1, 1),
        chance=None if chance is None else float(chance.values[at, layer, head]),
        copying=None if copied is None else float(copied.values[at, layer]) / float(atlas.data["pairs"].values[at]),
        heads=heads,
    )


def _matches(
    n_heads: int, n_other: int, hits: np.ndarray, others: np.ndarray, relations: list[np.ndarray], seed: int
) -> tuple[tuple[Match, ...], float | None]:
    """The most similar of `others` for each head with enough hits, and the mean similarity of the best by chance.

    Args:
        n_heads, n_other: heads in a layer.
        hits, others: Bool[ndarray, "head_of_model pair"].
        relations: the pairs of each.
    """
    import numpy as np

    ours, theirs = (np.flatnonzero(each.sum(1) >= FEWEST_HITS) for each in (hits, others))
    if not len(ours) or not len(theirs):
        return (), None
    a, b = hits[ours].astype(np.float32), others[theirs].astype(np.float32)
    similarity = _cosines(a, b)
    best, top = similarity.argmax(1), similarity.max(1)
    common = (a * b[best]).sum(1)
    # A pair counts as often as the other heads hit it; the head's own hits are spread over all pairs.
    sizes = b[best].sum(1)
    weight = a @ b.sum(0) - common + a.sum(1) * sizes / a.shape[1]
    p = np.minimum(1, len(b) * _at_least(common, sizes * weight / b.sum()))
    q = benjamini_hochberg(p)
    generator = np.random.default_rng(seed)
    by_chance = np.stack([_cosines(a, generator.permuted(b, axis=0)).max(1) for _ in range(SHUFFLES)])
    own, other = (np.stack([each[:, pairs].sum(1) for pairs in relations], axis=1) for each in (a, b[best]))
    expected = (own * other / [len(pairs) for pairs in relations]).sum(1)
    found = [
        Match(
            first=_place(int(ours[at]), n_heads),
            second=_place(int(theirs[best[at]]), n_other),
            similarity=float(top[at]),
            p_value=float(p[at]),
            q_value=float(q[at]),
            common=int(common[at]),
            expected_common=float(expected[at]),
        )
        for at in np.argsort(-top, kind="stable")
    ]
    return tuple(found), float(by_chance.mean())


def _at_least(count: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Chernoff's bound of the probability that a sum of independent events is at least `count`."""
    import numpy as np

    above = count > expected
    ratio = np.log(np.divide(count, expected, out=np.ones_like(count), where=above))
    return np.where(above, np.exp(count - expected - count * ratio), 1.0)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of all rows of `a` with all rows of `b`; 0 for a row of zeros."""
    import numpy as np

    sizes = np.sqrt(np.maximum(a.sum(1), 1)[:, None] * np.maximum(b.sum(1), 1))
    return a @ b.T / sizes


def _place(number: int, n_heads: int) -> tuple[int, int]:
    return divmod(number, n_heads)
