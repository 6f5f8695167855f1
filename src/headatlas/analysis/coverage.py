"""How much of the relations' pairs was measured."""

from __future__ import annotations

from dataclasses import dataclass

from headatlas.atlas import Atlas

COUNTS = ("in_file", "pairs", "source_dropped", "target_dropped", "duplicates")


@dataclass(frozen=True)
class Coverage:
    """Sums over all relations, measured or not; None where a relation's number is not known.

    Args:
        n_relations: relations asked for.
        not_measurable: names of those with too few pairs of which both words are one token.
        in_file: pairs in their files; each is kept or dropped for one reason.
        pairs: pairs kept.
        source_dropped, target_dropped: pairs whose source (else target) is not one token.
        duplicates: pairs that repeat another's tokens.
    """

    n_relations: int
    not_measurable: tuple[str, ...]
    in_file: int | None
    pairs: int | None
    source_dropped: int | None
    target_dropped: int | None
    duplicates: int | None


def sum_coverage(atlas: Atlas) -> Coverage:
    """The coverage of an atlas."""
    items = atlas.manifest["relations"]["items"]
    measured = set(atlas.relations)
    sums = {}
    for name in COUNTS:
        values = [item.get(name) for item in items]
        sums[name] = None if None in values else sum(values)
    missing = tuple(item["relation"] for item in items if item["relation"] not in measured)
    return Coverage(n_relations=len(items), not_measurable=missing, **sums)
