"""The share of the relations' pairs that was measured."""

from __future__ import annotations

from dataclasses import dataclass

from headatlas.atlas import Atlas

COUNTS = ("in_file", "pairs", "source_dropped", "target_dropped", "duplicates")


@dataclass(frozen=True)
class Coverage:
    """Sums over all relations, measured or not; None if the number is not known for a relation.

    Args:
        n_relations: number of relations.
        not_measurable: names of the relations with too few pairs whose words are one token each.
        in_file: pairs in the files; each is kept, or dropped for one reason.
        pairs: kept pairs.
        source_dropped, target_dropped: pairs whose source (otherwise target) is not one token.
        duplicates: pairs with the same tokens as an earlier pair.
    """

    n_relations: int
    not_measurable: tuple[str, ...]
    in_file: int | None
    pairs: int | None
    source_dropped: int | None
    target_dropped: int | None
    duplicates: int | None


def sum_coverage(atlas: Atlas) -> Coverage:
    """Sum the coverage of all relations of an atlas."""
    items = atlas.manifest.relations.items
    measured = set(atlas.relations)
    sums = {}
    for name in COUNTS:
        values = [getattr(item, name) for item in items]
        sums[name] = None if None in values else sum(values)
    missing = tuple(item.relation for item in items if item.relation not in measured)
    return Coverage(n_relations=len(items), not_measurable=missing, **sums)
