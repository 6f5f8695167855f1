"""The sections of the report with the results of the analysis."""

from __future__ import annotations

from collections.abc import Sequence

from headatlas.analysis.arrangements import Arrangement
from headatlas.analysis.boundaries import Boundary
from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.findings import Findings
from headatlas.analysis.group_similarity import GroupSimilarity
from headatlas.analysis.meetings import Meeting
from headatlas.analysis.significance import DRAWS
from headatlas.analysis.spans import Span
from headatlas.atlas import Atlas, head_name
from headatlas.reports.blocks import (
    Block,
    Code,
    Inline,
    Picture,
    Table,
    bullets,
    heading,
    line,
    paragraph,
    table,
)
from headatlas.reports.rows import category_rows, strongest_rows
from headatlas.reports.text import (
    agree,
    count,
    is_clear,
    layers,
    listed,
    listed_pieces,
    or_none,
    p_value,
    percent,
    ratio,
)

NAMED = 12
"""Names in one sentence; of more, only the number is given."""

VERBS = {"score": ("implements", "implement", "implemented"), "suppression": ("suppresses", "suppress", "suppressed")}
"""Singular, plural and participle of what heads do, by the side that the map shows."""

BOUNDARY_TEST = "maximum likelihood ratio, permuted layers"
WITHIN_TEST = "exact test within layers"


def in_short(atlas: Atlas, found: Findings, first: str = "") -> list[Block]:
    """Sentences that can be quoted, at most six behind the first, each with its numbers."""
    sentences: list[Inline] = [first, _classified(atlas, found)]
    if found.overall.n_heads:
        sentences += [_overall_boundary(found), _several(found), _met(found), _bands(found)]
    sentences.append(_best(found))
    return [heading("In short"), bullets(sentence for sentence in sentences if sentence)]


def heads_per_category(atlas: Atlas, found: Findings) -> list[Block]:
    classification = found.classification
    blocks: list[Block] = [heading("Heads per category"), _category_table(atlas, classification)]
    if len(classification.categories) > 1:
        several = [f"{count(heads, 'head')} in {number} categories" for number, heads in found.in_several]
        blocks.append(
            paragraph(f"In several categories: {listed(several)}." if several else "No head has several categories.")
        )
    return blocks


def where_in_layers(found: Findings) -> list[Block]:
    rows = [_span_cells(span) for span in (*found.spans, found.overall)]
    header = ["category", "first", "25 %", "50 %", "75 %", "last", "depth of 50 %", "densest"]
    return [
        heading("Where in the layers"),
        paragraph(
            "Layers are counted from 0. The columns 25 %, 50 % and 75 % name the first layer up to which at least this "
            "share of a category's heads lies. Depth is relative: 0 is the first layer, 1 the last."
        ),
        table(header, rows, right=(1, 2, 3, 4, 5, 6)),
    ]


def early_and_late(found: Findings) -> list[Block]:
    tests = sum(boundary.p is not None for boundary in found.boundaries)
    blocks: list[Block] = [
        heading("Early and late"),
        bullets(_boundary(boundary, found) for boundary in found.boundaries),
    ]
    if tests:
        blocks.append(
            paragraph(
                "Test: the likelihood ratio of two binomial rates (before a layer, and from it on) against one; its "
                f"maximum over all boundaries against that of {DRAWS:,} random orders of the layers (permutation "
                f"test). p is adjusted by Holm's method for {count(tests, 'test')}. A small p says that the order of "
                "the layers matters; the two rates show how sharp the division is."
            )
        )
    return blocks


def which_meet(found: Findings) -> list[Block]:
    title = heading("Which categories meet")
    if not found.meetings:
        return [title, paragraph("Fewer than two categories have heads: nothing can be tested.")]
    header = ["categories", "heads with both", "expected", "ratio", "Fisher's exact test", "expected within layers",
              "ratio", "exact test within layers"]  # fmt: skip
    rows = [[_pair(meeting), *_meeting_cells(meeting)] for meeting in found.meetings]
    tests = len(found.meetings)
    return [
        title,
        table(header, rows, right=(1, 2, 3, 5, 6)),
        bullets(_meeting(meeting) for meeting in found.meetings),
        paragraph(
            "Two categories that prefer the same layers meet often for that reason alone. Fisher's exact test compares "
            "with heads spread over the whole model; the exact test within layers compares with heads shuffled within "
            "each layer (a sum of hypergeometric counts), so that shared layers explain nothing. Both are two-sided; p "
            f"is adjusted by Holm's method for {count(tests, 'pair')}."
        ),
    ]


def layers_or_heads(atlas: Atlas, found: Findings) -> list[Block]:
    title = heading("Layers or heads")
    order = (
        "Head numbers carry no order: heads of a layer can be renumbered without changing the model. Only inside a "
        "key-value group are neighbours related, as they share keys and values."
    )
    if not found.arrangements:
        return [title, paragraph(f"No head has a category: nothing can be tested. {order}")]
    rows = [
        [
            each.category,
            or_none(each.by_layer, percent),
            or_none(each.by_layer_chance, percent),
            p_value(each.p_layer_adjusted),
            or_none(each.by_head, percent),
            or_none(each.by_head_chance, percent),
            p_value(each.p_head_adjusted),
        ]
        for each in found.arrangements
    ]
    header = ["category", "by layer", "by chance", "permutation test", "by head number", "by chance",
              "permutation test"]  # fmt: skip
    return [
        title,
        table(header, rows, right=(1, 2, 4, 5)),
        bullets(_arrangement(each) for each in found.arrangements),
        paragraph(
            "The numbers are shares of the deviance (what variance is for yes-or-no values) of having the category: "
            "how much layers explain (a vertical band in the picture), and how much head numbers (a row). Chance for "
            "layers: heads spread over the model; for head numbers: heads shuffled within each layer. "
            f"{DRAWS:,} draws; p is adjusted by Holm's method."
        ),
        paragraph(order),
        *_key_value_groups(atlas, found),
    ]


def rare_and_exceptional(found: Findings) -> list[Block]:
    _, verb, participle = VERBS[found.classification.side]
    sentences: list[Inline] = []
    if found.busiest:
        heads = listed(f"{head_name(*place)} ({number})" for place, number in found.busiest)
        ties = found.busiest_ties
        more = f"; {count(ties, 'more head')} {agree(ties, 'equals', 'equal')} the last" if ties else ""
        sentences.append(f"Heads that {verb} most relations: {heads}{more}.")
    for number, word in ((1, "one head"), (2, "two heads")):
        few = [
            line(Code(name), f" ({listed(head_name(*place) for place in heads)})")
            for name, heads in found.few
            if len(heads) == number
        ]
        if few:
            relations = agree(len(few), "relation is", "relations are")
            start = f"{len(few):,} {relations} {participle} by exactly {word}: "
            sentences.append(line(start, listed_pieces(few), "."))
    for row in found.apart:
        which = "first" if row.before else "last"
        side = "before" if row.before else "after"
        sentences.append(
            f"{head_name(*row.place)} is the {which} head with {row.category}, {count(row.distance, 'layer')} "
            f"{side} the next."
        )
    if found.both:
        both = [line(f"{head_name(*place)} (", Code(name), ")") for name, place in found.both[:NAMED]]
        more = f", and {len(found.both) - NAMED:,} more" if len(found.both) > NAMED else ""
        start = "Heads that both promote and suppress targets of one relation: "
        sentences.append(line(start, listed_pieces(both), f"{more}."))
    elif found.both is not None:
        sentences.append("No head both promotes and suppresses targets of one relation.")
    if found.unimplemented:
        n = len(found.unimplemented)
        start = f"{count(n, 'measured relation')} {agree(n, 'is', 'are')} {participle} by no head: "
        sentences.append(line(start, listed_pieces(map(Code, found.unimplemented)), "."))
    return [heading("Rare and exceptional"), bullets(sentences or ["No exceptional heads or relations."])]


def strongest_heads(atlas: Atlas, side: str) -> list[Block]:
    rows = [[Code(relation), *rest] for relation, *rest in strongest_rows(atlas, side, most=3)]
    return [heading("Strongest heads of each relation"), table(["relation", "category", "heads", side], rows)]


def suppression(atlas: Atlas, found: Findings, picture: Sequence[Picture]) -> list[Block]:
    """The other map in short, with its picture if there is one."""
    if not atlas.has_suppression:
        return [heading("Suppression"), paragraph("Not known: these scores came without it.")]
    classification = classify(atlas, found.classification.threshold, "suppression", found.classification.rule)
    n = classification.n_classified
    blocks: list[Block] = [
        heading("Suppression"),
        *picture,
        paragraph(
            f"{count(n, 'head')} {agree(n, 'has', 'have')} the targets of at least one relation among "
            f"{agree(n, 'its', 'their')} lowest logits (suppression above {classification.threshold})."
        ),
        _category_table(atlas, classification),
    ]
    if met := found.both_maps:
        compared = (
            f"{met.observed:,} observed, {met.expected_in_layers:.1f} expected within layers; "
            f"{WITHIN_TEST}, {p_value(met.p_in_layers)}"
        )
        if met.p_in_layers is None:
            sentence = f"Heads in both maps: {met.observed:,}; whether that is chance cannot be tested."
        elif is_clear(met.p_in_layers):
            more = "more" if met.observed > met.expected_in_layers else "less"
            sentence = f"Heads are in both maps {more} often than expected ({compared})."
        else:
            sentence = f"No clear link between the two maps ({compared})."
        blocks.append(paragraph(sentence))
    return blocks


# In short


def _classified(atlas: Atlas, found: Findings) -> str:
    classification = found.classification
    n, of = classification.n_classified, classification.n_heads
    verb = agree(n, *VERBS[classification.side][:2])
    sentence = (
        f"{n:,} of {of:,} heads ({percent(n / of)}) {verb} at least one of "
        f"{count(len(atlas.relations), 'measured relation')}"
    )
    counts = sorted(((span.n_heads, span.category or "") for span in found.spans if span.n_heads), reverse=True)
    if n and len(classification.categories) > 1:
        sentence += ": " + listed(f"{name} {number:,}" for number, name in counts)
        if found.in_several:
            sentence += ", some in several categories"
    note = atlas.manifest.model.note
    return sentence + (f". {note}" if note else ".")


def _overall_boundary(found: Findings) -> str:
    boundary, span = found.boundaries[0], found.overall
    if boundary.layer is None or span.quartiles is None:
        lie = layers(span.first or 0, span.last or 0)
        return f"These heads lie in {lie}; no boundary can be tested, as {boundary.untestable}."
    test = f"{BOUNDARY_TEST}, {p_value(boundary.p_adjusted)}"
    if not is_clear(boundary.p_adjusted):
        return f"No clear boundary divides early from late layers ({test})."
    lower, _, upper = span.quartiles
    return (
        f"Early and late divide best between layers {boundary.layer - 1} and {boundary.layer}: "
        f"{percent(boundary.early or 0)} of the heads before, {percent(boundary.late or 0)} of those after have a "
        f"category ({test}); the middle half of these heads lies in {layers(lower, upper)}."
    )


def _several(found: Findings) -> str:
    n, several = found.classification.n_classified, sum(heads for _, heads in found.in_several)
    if len(found.classification.categories) < 2:
        return ""
    return (
        f"{count(several, 'head')} {agree(several, 'has', 'have')} more than one category "
        f"({percent(several / n)} of those with any)."
    )


def _met(found: Findings) -> str:
    clear = [meeting for meeting in found.meetings if is_clear(meeting.p_in_layers_adjusted)]
    if not clear:
        tested = [each.p_in_layers_adjusted for each in found.meetings if each.p_in_layers_adjusted is not None]
        if not tested:
            return ""
        return (
            f"No two categories clearly meet more or less often than the layers they share explain ({WITHIN_TEST}, "
            f"smallest {p_value(min(tested))})."
        )
    clear.sort(key=lambda meeting: meeting.p_in_layers_adjusted or 0)
    pairs = [
        f"{_pair(each)} in {'more' if each.observed > each.expected_in_layers else 'fewer'} heads ({each.observed:,} "
        f"observed, {each.expected_in_layers:.1f} expected; {WITHIN_TEST}, {p_value(each.p_in_layers_adjusted)})"
        for each in clear[:3]
    ]
    return f"Beyond sharing layers, these meet: {listed(pairs)}."


def _bands(found: Findings) -> str:
    bands = [each for each in found.arrangements if is_clear(each.p_layer_adjusted)]
    rows = [each for each in found.arrangements if is_clear(each.p_head_adjusted)]
    if not bands and not rows:
        return ""
    test = "permutation test"

    def explained(each: Arrangement, share: float | None, chance: float | None, p: float | None) -> str:
        return f"{each.category} ({percent(share or 0)}, {percent(chance or 0)} by chance; {test}, {p_value(p)})"

    by_layer = [explained(each, each.by_layer, each.by_layer_chance, each.p_layer_adjusted) for each in bands]
    by_head = [explained(each, each.by_head, each.by_head_chance, each.p_head_adjusted) for each in rows]
    sentence = ""
    if by_layer:
        sentence = f"Layers explain more of the deviance than chance for {listed(by_layer)}"
        if not by_head:
            tested = [each.p_head_adjusted for each in found.arrangements if each.p_head_adjusted is not None]
            if not tested:
                return f"{sentence}."
            return f"{sentence}; no clear dependence on head numbers ({test}, smallest {p_value(min(tested))})."
        sentence += "; head numbers do for "
    else:
        sentence = "Head numbers explain more of the deviance than chance for "
    return f"{sentence}{listed(by_head)}."


def _best(found: Findings) -> Inline:
    side = found.classification.side
    if not found.best:
        return f"No head has a {side} above 0."
    first = found.best[0]
    named = [line(f"{head_name(*place)} for ", Code(row.relation)) for row in found.best for place in row.places]
    value = f"{first.score:.2f}"
    if len(found.best) == 1 and first.hits is not None and first.pairs is not None:
        value += f" ({first.hits:,} of {count(first.pairs, 'pair')})"
    if len(named) == 1:
        return line(f"The highest {side}, {value}, is that of ", named[0], ".")
    if len(named) > 4:
        return line(f"The highest {side}, {value}, is reached {len(named):,} times, first by ", named[0], ".")
    return line(f"The highest {side}, {value}, is reached by ", listed_pieces(named), ".")


# Parts of sections


def _category_table(atlas: Atlas, classification: Classification) -> Table:
    rows = category_rows(atlas, classification)
    return table(["category", "heads", "share of all", "this alone"], rows, right=(1, 2, 3))


def _span_cells(span: Span) -> list[str]:
    name = "Any" if span.category is None else span.category
    if span.quartiles is None:
        return [name, "none", "", "", "", "", "", ""]
    depth = span.depth(span.quartiles[1])
    return [
        name,
        str(span.first),
        *(str(layer) for layer in span.quartiles),
        str(span.last),
        "" if depth is None else f"{depth:.2f}",
        _densest(span),
    ]


def _densest(span: Span) -> str:
    heads = f"{count(span.most, 'head')}{' each' if len(span.densest) > 1 else ''}"
    if len(span.densest) > NAMED:
        return f"{count(len(span.densest), 'layer')} ({heads})"
    return f"{agree(len(span.densest), 'layer', 'layers')} {listed(str(layer) for layer in span.densest)} ({heads})"


def _boundary(boundary: Boundary, found: Findings) -> str:
    name = "Heads with any category" if boundary.category is None else boundary.category
    if boundary.layer is None:
        return f"{name}: not testable, {boundary.untestable}."
    layer, last = boundary.layer, found.overall.n_layers - 1
    rates = (
        f"{percent(boundary.early or 0)} of the heads in {layers(0, layer - 1)} and {percent(boundary.late or 0)} in "
        f"{layers(layer, last)}"
    )
    numbers = f"likelihood ratio {boundary.statistic:.1f}, permutation test, {p_value(boundary.p_adjusted)}"
    others = len(boundary.ties) - 1
    if others:
        numbers += "; as good before " + (
            count(others, "other layer") if others > NAMED else _layers_list(boundary.ties[1:])
        )
    if not is_clear(boundary.p_adjusted):
        return f"{name}: no clear boundary; the best is before layer {layer}, with {rates} ({numbers})."
    return f"{name}: best divided before layer {layer}, with {rates} ({numbers})."


def _layers_list(numbers: tuple[int, ...]) -> str:
    return f"{agree(len(numbers), 'layer', 'layers')} {listed(str(number) for number in numbers)}"


def _meeting_cells(meeting: Meeting) -> list[str]:
    return [
        f"{meeting.observed:,}",
        f"{meeting.expected:.1f}",
        or_none(meeting.ratio, ratio),
        p_value(meeting.p_adjusted),
        f"{meeting.expected_in_layers:.1f}",
        or_none(meeting.ratio_in_layers, ratio),
        p_value(meeting.p_in_layers_adjusted),
    ]


def _meeting(meeting: Meeting) -> str:
    over_all, within = is_clear(meeting.p_adjusted), is_clear(meeting.p_in_layers_adjusted)
    more = "more" if meeting.observed > meeting.expected else "less"
    more_within = "more" if meeting.observed > meeting.expected_in_layers else "less"
    if meeting.p_adjusted is None and meeting.p_in_layers_adjusted is None:
        return f"{_pair(meeting)}: not testable, only one number of meetings is possible."
    if not over_all and not within:
        return f"{_pair(meeting)}: no clear departure from chance."
    whole = f"{_pair(meeting)} meet {more} often than expected over the whole model"
    if within and over_all:
        if more == more_within:
            return f"{whole}, and within layers too: layers alone do not explain it."
        return f"{whole}, but {more_within} often within layers."
    if within:
        return (
            f"{_pair(meeting)} meet {more_within} often than expected within layers, not clearly over the whole model."
        )
    if meeting.p_in_layers_adjusted is None:
        return f"{whole}; within layers this cannot be tested."
    reason = "sharing layers" if more == "more" else "keeping to different layers"
    return f"{whole}; within layers there is no clear departure, so {reason} may be the reason."


def _arrangement(each: Arrangement) -> str:
    name = each.category
    verdicts = []
    for what, p in (("layers", each.p_layer_adjusted), ("head numbers", each.p_head_adjusted)):
        if p is None:
            verdicts.append(f"dependence on {what} cannot be tested")
        else:
            verdict = "depends on" if is_clear(p) else "no clear dependence on"
            verdicts.append(f"{verdict} {what} (permutation test, {p_value(p)})")
    return f"{name}: {verdicts[0]}; {verdicts[1]}."


def _key_value_groups(atlas: Atlas, found: Findings) -> list[Block]:
    grouped = [each for each in found.arrangements if each.group_pairs is not None]
    if not grouped:
        return []
    size = atlas.heads_per_group
    meaning = paragraph(
        f"Here {size} neighbouring heads share one key-value head. Pairs of heads of one group that both have the "
        "category, against heads shuffled within each layer (one-sided, p adjusted by Holm's method):"
    )
    lines = []
    for each in grouped:
        numbers = f"{count(each.group_pairs or 0, 'pair')}, {each.group_pairs_chance:.1f} expected"
        if each.p_group is None:
            verdict = f"not testable ({numbers})"
        elif is_clear(each.p_group_adjusted):
            verdict = f"clusters in the groups ({numbers}; permutation test, {p_value(each.p_group_adjusted)})"
        else:
            verdict = (
                f"no clear clustering in the groups ({numbers}; permutation test, {p_value(each.p_group_adjusted)})"
            )
        lines.append(f"{each.category}: {verdict}.")
    return [meaning, bullets(lines), *_group_similarity(found.group_similarity)]


def _group_similarity(found: GroupSimilarity | None) -> list[Block]:
    if found is None:
        return []
    verdict = (
        "Heads of one group implement more alike relations"
        if is_clear(found.p_value)
        else ("Heads of one group do not clearly implement more alike relations")
    )
    return [
        paragraph(
            f"{verdict} than other heads of their layer: the mean cosine of two heads' scores over all relations is "
            f"{found.within:.2f} within groups and {found.between:.2f} between them (permutation test within layers, "
            f"one-sided, {p_value(found.p_value)})."
        )
    ]


def _pair(meeting: Meeting) -> str:
    return " and ".join(name for name in meeting.pair)
