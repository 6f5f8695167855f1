"""The report: what the map shows in sentences and numbers, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headatlas.atlas import Atlas, head_name
from headatlas.printable import printable
from headatlas.reports.rows import category_rows, percent, strongest_rows

if TYPE_CHECKING:
    from headatlas.analysis import Analysis, Arrangement, Boundary, Meeting, Span

SIGNIFICANT = 0.05

METHOD = """@inproceedings{elhelo-geva-2025-inferring,
  title     = {Inferring Functionality of Attention Heads from their Parameters},
  author    = {Elhelo, Amit and Geva, Mor},
  booktitle = {Proceedings of the 63rd Annual Meeting of the Association for Computational Linguistics},
  year      = {2025},
  note      = {arXiv:2412.11965}
}"""

MEASURED = {
    "weights": "scores of the weights alone, without a forward pass",
    "attention-fixed": "scores of the running model with attention fixed on the source token",
    "in-context": "scores of the running model as it reads a context",
}

LIMITS = {
    "weights": (
        "A score says what a head writes when it reads a token. It does not say when the head reads that token (the "
        "attention pattern is left out), and nothing of words that are several tokens. In later layers the input is an "
        "approximation: the first MLP's output for the token, without what other layers add. A high score shows a "
        "capability, not a role in the running model; a low score does not show that the model lacks the function, "
        "which may lie in MLPs, in other heads, or in words of several tokens."
    ),
    "attention-fixed": (
        "These scores were measured by running the model with the attention of the last token fixed on the source. "
        "They show what a head would write if it read the source there, not that it does so by itself. How pairs and "
        "templates were chosen, and k, is not known here."
    ),
    "in-context": (
        "These scores were measured by running the model on contexts. They depend on the templates, which are not "
        "known here, and mix what a head writes with where it looks. Pairs and k are not known here."
    ),
}


def write_report(
    atlas: Atlas,
    threshold: str | float | None = None,
    kind: str = "score",
    figure: str | None = None,
    suppression_figure: str | None = None,
) -> str:
    """The report of an atlas.

    Args:
        threshold: strict limit, 0 to 1; default: the atlas's own.
        kind: `score` or `suppression`.
        figure, suppression_figure: relative names of pictures to show.
    """
    from headatlas.analysis import analyse

    found = analyse(atlas, threshold, kind)
    parts = [
        f"# {'Suppression' if kind == 'suppression' else 'Heads'} of {escape(atlas.name)}",
        f"![Map of the heads by category]({figure})" if figure else "",
        _in_short(atlas, found),
        _categories(atlas, found),
        _layers(found),
        _meetings(found),
        _arrangement(atlas, found),
        _rare(found),
        _strongest(atlas, kind),
        _suppression(atlas, suppression_figure) if kind == "score" else "",
        _coverage(atlas),
        _settings(atlas, found),
        _citation(atlas),
        "## Limits\n\n" + LIMITS[atlas.measure] + _few_heads(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Text from a file as Markdown that shows it and does nothing else: no markup, no HTML, no control characters."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", text)


def code(text: object) -> str:
    """A name as a code span."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _in_short(atlas: Atlas, found: Analysis) -> str:
    classification = found.classification
    n, of = classification.n_classified, classification.n_heads
    verb = "suppress" if classification.kind == "suppression" else "implement"
    sentences = [
        f"{n:,} of {of:,} heads ({percent(n / of)}) {_s(n, verb + 's', verb)} at least one of "
        f"{_count(len(atlas.relations), 'measured relation')} ({atlas.measure}, {escape(_label(atlas, found))}, above "
        f"{escape(classification.threshold)})."
    ]
    if note := atlas.manifest["model"].get("note"):
        sentences[0] += f" {escape(note)}"
    overall = found.boundaries[0]
    if overall.layer is not None and overall.p_adjusted < SIGNIFICANT:
        sentences.append(
            f"The layers divide best before layer {overall.layer}: {percent(overall.early)} of the heads before it "
            f"have a category, {percent(overall.late)} of the others ({_p(overall.p_adjusted)})."
        )
    several = int((classification.count > 1).sum())
    if n:
        sentences.append(
            f"{_count(several, 'head')} {_s(several, 'has', 'have')} more than one category "
            f"({percent(several / n)} of those classified)."
        )
    met = [meeting for meeting in found.meetings if meeting.p_in_layers_adjusted < SIGNIFICANT]
    for meeting in sorted(met, key=lambda meeting: meeting.p_in_layers_adjusted)[:1]:
        more = "more" if meeting.observed > meeting.expected_in_layers else "fewer"
        sentences.append(
            f"{_pair(meeting)} meet in {more} heads than their layers explain: {meeting.observed} observed, "
            f"{meeting.expected_in_layers:.1f} expected ({_p(meeting.p_in_layers_adjusted)})."
        )
    bands = [each for each in found.arrangements if each.p_layer < SIGNIFICANT <= each.p_head]
    if bands:
        names = _list(escape(each.category) for each in bands)
        sentences.append(f"{names} {_s(len(bands), 'follows', 'follow')} layers, not head numbers.")
    strongest = _strongest_of_all(atlas, classification.kind)
    if strongest:
        sentences.append(strongest)
    return "## In short\n\n" + "\n".join(f"- {sentence}" for sentence in sentences)


def _strongest_of_all(atlas: Atlas, kind: str) -> str:
    rows = atlas.heads(min_score="0", kind=kind)
    if rows.empty:
        return ""
    best = rows.iloc[0]
    known = atlas.counts_known
    hits = f"{best['hits']} of {best['pairs']} pairs" if known else f"{best['score']:.2f}"
    return f"The highest {kind} is that of {best['name']} for {code(best['relation'])}: {hits}."


def _categories(atlas: Atlas, found: Analysis) -> str:
    classification = found.classification
    rows = [[escape(cell) for cell in row] for row in category_rows(atlas, classification)]
    lines = [
        "## Heads per category",
        "",
        _table(["category", "heads", "share of all", "this alone"], rows, right=(1, 2, 3)),
    ]
    for number in range(2, len(classification.categories) + 1):
        heads = int((classification.count == number).sum())
        if heads:
            lines += ["", f"{_count(heads, 'head')} {_s(heads, 'has', 'have')} exactly {number} categories."]
    return "\n".join(lines)


def _layers(found: Analysis) -> str:
    rows = [[escape(span.category), *_span_cells(span)] for span in found.spans]
    header = ["category", "first", "25 %", "50 %", "75 %", "last", "densest"]
    lines = [
        "## Where in the layers",
        "",
        "Layers are counted from 0. A quarter, half and three quarters of a category's heads lie at or before the "
        "layers under 25 %, 50 % and 75 %.",
        "",
        _table(header, rows, right=(1, 2, 3, 4, 5)),
        "",
        *(f"- {_boundary_sentence(boundary)}" for boundary in found.boundaries),
        "",
        "Test: likelihood ratio of two binomial rates (before and from a layer on) against one, its maximum over the "
        "boundaries compared with that of permuted layers; p after Holm.",
    ]
    return "\n".join(lines)


def _span_cells(span: Span) -> list[str]:
    if span.quartiles is None:
        return ["none", "", "", "", "", ""]
    densest = (
        _list(str(layer) for layer in span.densest)
        + f" ({_count(span.most, 'head')}"
        + (" each)" if len(span.densest) > 1 else ")")
    )
    return [str(span.first), *(str(layer) for layer in span.quartiles), str(span.last), densest]


def _boundary_sentence(boundary: Boundary) -> str:
    name = "Heads with any category" if boundary.category is None else escape(boundary.category)
    if boundary.layer is None:
        return f"{name}: no boundary can be tested."
    if boundary.p_adjusted >= SIGNIFICANT:
        return (
            f"{name}: no clear boundary (the best lies before layer {boundary.layer}: {percent(boundary.early)} and "
            f"{percent(boundary.late)}; {_p(boundary.p_adjusted)})."
        )
    return (
        f"{name}: the best boundary lies before layer {boundary.layer}: {percent(boundary.early)} of the heads before "
        f"it, {percent(boundary.late)} from it on (likelihood ratio {boundary.statistic:.1f}, "
        f"{_p(boundary.p_adjusted)})."
    )


def _meetings(found: Analysis) -> str:
    if not found.meetings:
        return ""
    rows = [
        [
            _pair(meeting),
            str(meeting.observed),
            f"{meeting.expected:.1f}",
            _p(meeting.p_adjusted),
            f"{meeting.expected_in_layers:.1f}",
            _p(meeting.p_in_layers_adjusted),
        ]
        for meeting in found.meetings
    ]
    header = ["categories", "heads with both", "expected", "Fisher's test", "expected within layers", "within layers"]
    return "\n".join(
        [
            "## Which categories meet",
            "",
            _table(header, rows, right=(1, 2, 4)),
            "",
            *(f"- {_meeting_sentence(meeting)}" for meeting in found.meetings),
            "",
            "Fisher's exact test compares with heads spread over the whole model; within layers, the count is compared "
            "with the exact distribution when each layer's heads are shuffled, so that sharing layers explains "
            "nothing. Both two-sided, p after Holm.",
        ]
    )


def _meeting_sentence(meeting: Meeting) -> str:
    if meeting.p_in_layers_adjusted < SIGNIFICANT:
        more = "more" if meeting.observed > meeting.expected_in_layers else "less"
        return f"{_pair(meeting)} meet {more} often than expected, also within layers."
    if meeting.p_adjusted < SIGNIFICANT:
        more = "more" if meeting.observed > meeting.expected else "less"
        return f"{_pair(meeting)} meet {more} often than expected, which the layers that they share can explain."
    return f"{_pair(meeting)}: no clear departure from chance."


def _arrangement(atlas: Atlas, found: Analysis) -> str:
    if not found.arrangements:
        return ""
    rows = [
        [
            escape(each.category),
            percent(each.by_layer),
            percent(each.by_layer_chance),
            _p(each.p_layer),
            percent(each.by_head),
            percent(each.by_head_chance),
            _p(each.p_head),
        ]
        for each in found.arrangements
    ]
    header = ["category", "by layer", "by chance", "test", "by head number", "by chance", "test"]
    lines = [
        "## Layers or heads",
        "",
        "How much of the deviance of having a category layers explain (a vertical band in the picture), and how much "
        "head numbers (a row), each against heads spread at random (permutation test).",
        "",
        _table(header, rows, right=(1, 2, 4, 5)),
        "",
        *(f"- {_arrangement_sentence(each)}" for each in found.arrangements),
        "",
        "Head numbers carry no order, except that neighbours share a key-value group where attention is grouped.",
    ]
    grouped = [each for each in found.arrangements if each.group_pairs is not None]
    if grouped:
        size = atlas.n_heads // atlas.manifest["model"]["n_kv_heads"]
        lines += ["", f"Here {size} neighbouring heads share one key-value head:", ""]
        for each in grouped:
            clear = each.p_group is not None and each.p_group < SIGNIFICANT
            verdict = "clusters in these groups" if clear else "shows no clear clustering in these groups"
            lines.append(
                f"- {escape(each.category)} {verdict}: {_count(int(each.group_pairs or 0), 'pair')} of heads in one "
                f"group, {each.group_pairs_chance:.1f} expected within layers (permutation test, "
                f"{_p(each.p_group or 0)})."
            )
    return "\n".join(lines)


def _arrangement_sentence(each: Arrangement) -> str:
    name, layers, heads = escape(each.category), each.p_layer < SIGNIFICANT, each.p_head < SIGNIFICANT
    if layers and heads:
        return f"{name} follows both layers and head numbers."
    if layers:
        return f"{name} follows layers; no clear tie to head numbers."
    if heads:
        return f"{name} follows head numbers; no clear tie to layers."
    return f"{name}: no clear tie to layers or head numbers."


def _rare(found: Analysis) -> str:
    lines = []
    if found.busiest:
        busiest = _list(f"{head_name(*place)} ({number} relations)" for place, number in found.busiest)
        lines.append(f"- Most relations: {busiest}.")
    for name, place in found.lone:
        lines.append(f"- {head_name(*place)} alone implements {code(name)}.")
    for category, place, distance in found.apart:
        lines.append(
            f"- {head_name(*place)} stands apart: {_count(distance, 'layer')} from the next head with "
            f"{escape(category)}."
        )
    for name, place in found.both:
        lines.append(f"- {head_name(*place)} both promotes and suppresses targets of {code(name)}.")
    if found.unimplemented:
        lines.append(f"- Measured, but implemented by no head: {_list(code(name) for name in found.unimplemented)}.")
    return "## Rare and exceptional\n\n" + "\n".join(lines) if lines else ""


def _strongest(atlas: Atlas, kind: str) -> str:
    rows = [[code(row[0]), escape(row[1]), row[2], row[3]] for row in strongest_rows(atlas, kind, most=3)]
    return f"## Strongest heads of each relation\n\n{_table(['relation', 'category', 'heads', kind], rows)}"


def _suppression(atlas: Atlas, figure: str | None) -> str:
    if not atlas.has_suppression:
        return "## Suppression\n\nNot known: these scores came without it."
    from headatlas.categories import classify

    found = classify(atlas, kind="suppression")
    rows = [[escape(cell) for cell in row] for row in category_rows(atlas, found)]
    return "\n\n".join(
        part
        for part in (
            "## Suppression",
            f"![Map of suppressing heads by category]({figure})" if figure else "",
            "Heads whose lowest logits hold the targets of a relation.",
            _table(["category", "heads", "share of all", "this alone"], rows, right=(1, 2, 3)),
        )
        if part
    )


def _coverage(atlas: Atlas) -> str:
    coverage = atlas.coverage
    rows = []
    for row in coverage.to_dict("records"):
        known = [
            _known(row[name]) for name in ("k", "in_file", "pairs", "source_dropped", "target_dropped", "duplicates")
        ]
        rows.append([code(row["relation"]), escape(row["category"]), *known, "yes" if row["measurable"] else "no"])
    header = ["relation", "category", "k", "pairs in file", "kept", "source not one token", "target not one token",
              "double", "measurable"]  # fmt: skip
    n = sum(coverage["measurable"].tolist())
    least = atlas.manifest["settings"].get("min_pairs")
    sentence = f"{n} of {_count(len(coverage), 'relation')} {_s(n, 'is', 'are')} measurable."
    if least:
        sentence += (
            f" A relation with fewer than {least} pairs of which both words are one token is not: it has no score."
        )
    return f"## Coverage\n\n{sentence}\n\n{_table(header, rows, right=(2, 3, 4, 5, 6, 7))}"


def _settings(atlas: Atlas, found: Analysis) -> str:
    manifest = atlas.manifest
    rows = [
        ["measured", MEASURED[atlas.measure]],
        ["profile", escape(_label(atlas, found))],
        ["threshold", escape(found.classification.threshold)],
    ]
    for group in ("model", "settings", "relations", "packages", "run", "imported", "tool"):
        for key, value in (manifest.get(group) or {}).items():
            if isinstance(value, list | dict) or (group, key) == ("settings", "threshold"):
                continue
            unknown = "none" if key == "note" else "not known"
            rows.append([escape(f"{group}: {key}".replace("_", " ")), escape(unknown if value is None else value)])
    rows.append(["created", escape(manifest.get("created", "not known"))])
    return f"## Settings and versions\n\n{_table(['what', 'value'], rows)}"


def _citation(atlas: Atlas) -> str:
    import headatlas

    version = (atlas.manifest.get("tool") or {}).get("version", headatlas.__version__)
    title = "headatlas: a map of what every attention head does"
    tool = f"@software{{headatlas,\n  title   = {{{title}}},\n  version = {{{version}}}\n}}"
    return f"## How to cite\n\nThe method, and the tool:\n\n```bibtex\n{METHOD}\n\n{tool}\n```"


def _few_heads() -> str:
    return (
        " The number of heads above the threshold grows with the number of relations measured, so counts are "
        "comparable only between maps of the same relations and settings."
    )


def _label(atlas: Atlas, found: Analysis) -> str:
    if found.classification.threshold == atlas.threshold:
        return atlas.label
    return f"{atlas.label}, shown at threshold {found.classification.threshold}"


def _table(header: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    rule = ["---:" if number in right else "---" for number in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def _pair(meeting: Meeting) -> str:
    return " and ".join(escape(name) for name in meeting.pair)


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _s(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _list(words: Iterable[str]) -> str:
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _known(value: Any) -> str:
    import pandas as pd

    return "not known" if pd.isna(value) else str(value)
