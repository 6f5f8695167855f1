"""All findings about a map, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headatlas.analysis.arrangements import Arrangement, find_arrangements
from headatlas.analysis.beyond_chance import BeyondChance, find_beyond_chance, find_borderline
from headatlas.analysis.boundaries import Boundary, find_boundaries
from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.copying import CopyingControl, find_copying
from headatlas.analysis.coverage import Coverage, sum_coverage
from headatlas.analysis.exceptional import (
    Apart,
    Both,
    Busy,
    Few,
    Strongest,
    find_apart,
    find_best,
    find_both,
    find_busiest,
    find_few,
    find_strongest,
)
from headatlas.analysis.group_similarity import GroupSimilarity, find_group_similarity
from headatlas.analysis.meetings import Meeting, find_meetings
from headatlas.analysis.spans import Span, find_span
from headatlas.atlas import SIDES, Atlas

if TYPE_CHECKING:
    import numpy as np


class InSeveral(NamedTuple):
    """Number of heads with exactly this number of categories."""

    n_categories: int
    n_heads: int


@dataclass(frozen=True)
class Findings:
    """What the map of an atlas shows; the place of a head is (layer, head).

    Args:
        classification: the categories of all heads.
        in_several: how many heads have exactly two categories, three, ..., for numbers that occur.
        overall: span of the heads with any category.
        spans: span of each category.
        boundaries: boundary of the heads with any category, then of each category.
        meetings: of all pairs of categories that have heads.
        arrangements: of each category that has heads.
        group_similarity: of heads within and between key-value groups; None if layers have no such groups.
        busiest: the heads that implement the most relations.
        busiest_ties: number of further heads with as many relations as the last of them.
        few: relations that exactly one or two heads implement.
        strongest: the strongest head of each measured relation.
        best: the strongest heads with the highest score of all.
        apart: heads far from all other heads of their category.
        both: heads that both promote and suppress a relation; None if suppression is not known.
        both_maps: heads that implement any relation and heads that suppress any relation; None if there are no such
            heads.
        unimplemented: measured relations that no head implements.
        coverage: pairs kept and dropped.
        beyond_chance: comparison with chance levels; None if they were not measured.
        copying: comparison with copying; None if it was not measured which pairs copying hits.
        borderline: scores whose interval contains the threshold, Bool[ndarray, "relation layer head"]; None if not
            known.
        seed: of the permutation tests.
    """

    classification: Classification
    in_several: tuple[InSeveral, ...]
    overall: Span
    spans: tuple[Span, ...]
    boundaries: tuple[Boundary, ...]
    meetings: tuple[Meeting, ...]
    arrangements: tuple[Arrangement, ...]
    group_similarity: GroupSimilarity | None
    busiest: tuple[Busy, ...]
    busiest_ties: int
    few: tuple[Few, ...]
    strongest: tuple[Strongest, ...]
    best: tuple[Strongest, ...]
    apart: tuple[Apart, ...]
    both: tuple[Both, ...] | None
    both_maps: Meeting | None
    unimplemented: tuple[str, ...]
    coverage: Coverage
    beyond_chance: BeyondChance | None
    copying: CopyingControl | None
    borderline: np.ndarray | None
    seed: int


def analyse(
    atlas: Atlas,
    threshold: str | float | None = None,
    side: str = "score",
    rule: str | None = None,
    seed: int = 0,
) -> Findings:
    """Compute what the map of an atlas shows.

    Args:
        threshold: strict limit, 0 to 1; default: the atlas's own.
        side: `score` or `suppression`.
        rule: `plain` or `calibrated`; default: the atlas's own.
        seed: of the permutation tests; the same seed gives the same numbers.

    Raises:
        AtlasError: the atlas lacks suppression, or the chance levels that `calibrated` needs.
        SettingsError: an argument is outside its range.
    """
    found = classify(atlas, threshold, side, rule)
    anything = found.count > 0
    named = [(category, found.of(category)) for category in found.categories]
    # Layers without attention heads take no part in a test.
    layers = [int(layer) for layer in found.has_heads.nonzero()[0]]
    tested = [(category, has[layers]) for category, has in named]
    in_several = (InSeveral(n, int((found.count == n).sum())) for n in range(2, len(found.categories) + 1))
    busiest, busiest_ties = find_busiest(found)
    strongest = find_strongest(atlas, side)
    return Findings(
        classification=found,
        in_several=tuple(row for row in in_several if row.n_heads),
        overall=find_span(None, anything),
        spans=tuple(find_span(category, has) for category, has in named),
        boundaries=tuple(
            boundary.among(layers) for boundary in find_boundaries([(None, anything[layers]), *tested], seed)
        ),
        meetings=find_meetings(tested),
        arrangements=find_arrangements(tested, atlas.heads_per_group, seed),
        group_similarity=find_group_similarity(atlas.share(side).values[:, layers], atlas.heads_per_group, seed),
        busiest=busiest,
        busiest_ties=busiest_ties,
        few=find_few(found, atlas.relations),
        strongest=strongest,
        best=find_best(strongest),
        apart=tuple(row for category, has in named for row in find_apart(category, has)),
        both=find_both(atlas, found.threshold, found.rule) if atlas.has_suppression else None,
        both_maps=_both_maps(atlas, found.threshold, found.rule),
        unimplemented=tuple(
            name for name, heads in zip(atlas.relations, found.implements, strict=True) if not heads.any()
        ),
        coverage=sum_coverage(atlas),
        beyond_chance=find_beyond_chance(atlas, found.threshold, side),
        copying=find_copying(atlas, found.threshold, side),
        borderline=find_borderline(atlas, found.threshold, side),
        seed=seed,
    )


def _both_maps(atlas: Atlas, threshold: str, rule: str) -> Meeting | None:
    if not atlas.has_suppression:
        return None
    maps = [(side, classify(atlas, threshold, side, rule).count[atlas.has_heads] > 0) for side in SIDES]
    return next(iter(find_meetings(maps)), None)
