"""What a map shows, in three sentences."""

from __future__ import annotations

from headatlas.analysis.boundaries import find_boundaries
from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.spans import find_span
from headatlas.analysis.strong_heads import StrongHead, only_suppressing, strictest_rule, strong_heads
from headatlas.atlas import Atlas
from headatlas.relations import relation_title
from headatlas.reports.text import agree, count, is_clear, layers, p_value, percent


def headline(atlas: Atlas) -> list[str]:
    """How many heads have a function, in which layers they lie, and which is the strongest: each with its null.

    Relations are named as people read them; text may come from files and is not escaped.
    """
    found = classify(atlas)
    if not found.n_classified:
        suppressing = only_suppressing(atlas)
        also = "" if suppressing is None or not suppressing.any() else f"; {_suppress(int(suppressing.sum()))}"
        return [
            f"None of {found.n_heads:,} heads of {atlas.name} implements one of "
            f"{count(len(atlas.relations), 'measured relation')} (score above {found.threshold}){also}."
        ]
    return [_how_many(atlas, found), _where(found), *_strongest(atlas)]


def _how_many(atlas: Atlas, found: Classification) -> str:
    n = found.n_classified
    sentence = (
        f"{n:,} of {found.n_heads:,} heads of {atlas.name} ({percent(n / found.n_heads)}) "
        f"{agree(n, 'implements', 'implement')} at least one of {count(len(atlas.relations), 'measured relation')}"
    )
    if found.rule == "calibrated":
        sentence += ", beyond chance and copying"
    elif strictest_rule(atlas) == "calibrated":
        strict = classify(atlas, rule="calibrated").n_classified
        sentence += f", {'' if strict == n == 1 else 'all ' if strict == n else f'{strict:,} of them '}"
        sentence += "beyond chance and copying"
    suppressing = only_suppressing(atlas)
    if suppressing is not None and suppressing.any():
        sentence += f"; {_suppress(int(suppressing.sum()))}"
    return f"{sentence}."


def _suppress(n: int) -> str:
    return f"{n:,} {agree(n, 'other suppresses', 'others suppress')} one"


def _where(found: Classification) -> str:
    anything = found.count > 0
    # Layers without attention heads take no part in a test.
    there = [int(layer) for layer in found.has_heads.nonzero()[0]]
    named = [(None, anything), *((category, found.of(category)) for category in found.categories)]
    boundary = find_boundaries([(name, has[there]) for name, has in named], 0)[0].among(there)
    span = find_span(None, anything)
    first, last = span.first or 0, span.last or 0
    if boundary.layer is None or not is_clear(boundary.p_adjusted):
        return f"They are in {layers(first, last)}; no clear boundary divides early from late layers."
    early, late = boundary.early or 0, boundary.late or 0
    where = [
        (late, layers(boundary.layer, span.n_layers - 1)),
        (early, layers(0, boundary.layer - 1)),
    ]
    (most, dense), (least, sparse) = sorted(where, reverse=True)
    return (
        f"They lie {'late' if late > early else 'early'}: {percent(most)} of the heads in {dense} have such a "
        f"function, and {percent(least)} of those in {sparse} (permuted layers, {p_value(boundary.p_adjusted)})."
    )


def _strongest(atlas: Atlas) -> list[str]:
    heads = strong_heads(atlas, 1) or strong_heads(atlas, 1, rule="plain")
    return [f"The strongest is {each.name}, for {in_words(each)}." for each in heads]


def in_words(each: StrongHead) -> str:
    """`country → capital (France → Paris): 30 of 43 pairs, where chance hits 0.7; it has 6 more relations`."""
    best = each.best
    example = "" if best.example is None else " ({} → {})".format(*(word.strip() for word in best.example))
    value = f"{best.score:.2f}" if best.hits is None else f"{best.hits:,} of {count(best.pairs or 0, 'pair')}"
    chance = "" if best.chance is None else f", where chance hits {best.chance:.1f}"
    more = f"; it has {count(each.more, 'more relation')}" if each.more else ""
    return f"{relation_title(best.relation)}{example}: {value}{chance}{more}"
