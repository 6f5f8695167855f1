"""A head's card as blocks, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headatlas.analysis.ablation import BY_OTHER_SCORE, is_random_order
from headatlas.atlas.headvis import METRICS
from headatlas.printable import printable
from headatlas.relations import relation_title
from headatlas.reports.blocks import (
    Block,
    Blocks,
    Inline,
    Strong,
    Title,
    bullets,
    heading,
    line,
    paragraph,
    table,
)
from headatlas.reports.markdown import to_markdown
from headatlas.reports.text import count
from headatlas.reports.written import written_line

if TYPE_CHECKING:
    from headatlas.analysis.card import Card

NOT_MEASURED = "not measured"
MOST_RELATIONS, MOST_OPERATIONS = 8, 15


def write_card(card: Card) -> str:
    """The card as Markdown."""
    return to_markdown(build_card(card))


def build_card(card: Card) -> Blocks:
    """The blocks of the card."""
    facts = card.as_dict()
    return (
        Title(line(f"{card.name} of {facts['model']['name']}")),
        *_head(facts),
        *_words(facts),
        *_relations(facts),
        *_examples(facts),
        *_evidence(facts),
        *_salient(facts),
        *_neighbours(facts),
    )


def _head(facts: dict[str, Any]) -> list[Block]:
    description, validity, layer = facts["description"], facts["validity"], facts["layer_context"]
    if description is None:
        told = f"What it does most: {NOT_MEASURED}."
    elif description["rule"] == "unclear":
        told = "What it does most is unclear."
    else:
        told = f"{description['description']} (confidence {description['confidence']:.2f})."
    lines = [
        f"Categories ({facts['rule']}): {', '.join(facts['categories']) or 'none'}",
        *(
            [f"Suppresses ({facts['rule']}): {', '.join(facts['suppressed_categories'])}"]
            if facts["suppressed_categories"]
            else []
        ),
        f"Layer {facts['layer']}: {layer['classified']} of {layer['n_heads']} heads have a category",
        f"Circuit: {validity['kind']}" + (f" ({validity['why']})" if validity["why"] else ""),
        f"Measured: {facts['measure']}, {facts['label']}",
    ]
    if facts["model"]["note"]:
        lines.append(facts["model"]["note"])
    # A language model's, which nobody has to ask: what was not written is not missing.
    written = [] if facts["written"] is None else [paragraph("By a language model: ", written_line(facts["written"]))]
    first = [paragraph(line(Strong(facts["sentence"]))), paragraph(told)]
    if facts["shown"] == ["description"]:
        first = [paragraph(line(Strong(told))), *([paragraph(facts["missing"])] if facts["missing"] else [])]
    elif facts["shown"] == ["sentence"]:
        del first[1]
    return [*first, *written, paragraph(feeds(facts)), bullets(lines)]


def _words(facts: dict[str, Any]) -> list[Block]:
    title, found = heading("Words that it looks for"), facts["reading_words"]
    if found is None:
        return [title, paragraph(NOT_MEASURED)]
    rows: list[list[Inline]] = [
        [token_text(each["token"]), ", ".join(map(timed, each["looks_for"]))] for each in found["pairs"]["queries"]
    ]
    asked = paragraph(f"Whoever asks: {', '.join(map(timed, found['keys']['words'])) or 'none'}.")
    return [
        title,
        paragraph(BY_WEIGHTS),
        asked,
        *([table(["word", "looks for"], rows)] if rows else []),
        paragraph(agreement_of_words(found)),
    ]


def _relations(facts: dict[str, Any]) -> list[Block]:
    header = ["relation", "category", "score", "hits", "95 % interval", "chance", "q", "uncopied", "suppression"]
    rows: list[list[Inline]] = [
        [
            line(relation_title(each["relation"]), *((" ", Strong("✓")) if each["implements"] else ())),
            each["category"],
            f"{each['score']:.2f}",
            counted(each["hits"], each["pairs"]),
            interval(each["score_interval"]),
            share(each["score_chance"]),
            q_value(each["score_q"]),
            uncopied(each),
            share(each["suppression"]),
        ]
        for each in facts["relations"][:MOST_RELATIONS]
    ]
    return [
        heading("Strongest relations"),
        paragraph(f"✓: implemented, by {facts['rule']} above {facts['threshold']}"),
        table(header, rows, (2, 3, 4, 5, 6, 7, 8)),
        paragraph("Uncopied: hits among the pairs that a head misses that only copies its word."),
    ]


def _examples(facts: dict[str, Any]) -> list[Block]:
    title, lines = heading("Examples"), []
    for each in shown_relations(facts):
        examples = each["examples"]
        if examples is None:
            return [title, paragraph(NOT_MEASURED)]
        for name in ("hit", "missed", "suppressed"):
            if examples[name]:
                pairs = ", ".join(f"{source} → {target}" for source, target in examples[name])
                lines.append(line(relation_title(each["relation"]), f", {name}: {pairs}"))
    return [title, bullets(lines) if lines else paragraph("none")]


def _evidence(facts: dict[str, Any]) -> list[Block]:
    lines = []
    for name, rows in evidence_rows(facts).items():
        lines += [f"{name}: {row}" for row in ([NOT_MEASURED] if rows is None else rows)]
    title = heading("Evidence of the running model")
    return [title, bullets(lines) if lines else paragraph("none for its relations")]


def _salient(facts: dict[str, Any]) -> list[Block]:
    title = heading("Salient operations")
    if facts["salient"] is None:
        return [title, paragraph(NOT_MEASURED)]
    rows = [
        [each["token"], f"{each['amplification']:.2f}", ", ".join(each["promoted"]), ", ".join(each["suppressed"])]
        for each in facts["salient"][:MOST_OPERATIONS]
    ]
    return [title, table(["token", "amplified", "promotes", "suppresses"], rows, (1,))]


def _neighbours(facts: dict[str, Any]) -> list[Block]:
    group, similar = facts["key_value_group"], facts["similar"]
    alike = (
        NOT_MEASURED
        if similar is None
        else ", ".join(f"{each['name']} ({each['similarity']:.2f})" for each in similar) or "none"
    )
    shared = "not known" if group is None else ", ".join(each["name"] for each in group["heads"])
    return [heading("Neighbours"), bullets([f"Most alike: {alike}", f"Same key-value head: {shared}"])]


# Pieces that the screen shows as well


def feeds(facts: dict[str, Any]) -> str:
    """Which heads feed this one, and which it feeds, in a sentence or two."""
    composition = facts["composition"]
    return f"Which heads feed it: {NOT_MEASURED}." if composition is None else composition["sentence"]


BY_WEIGHTS = (
    "From the weights: how many times as much attention it gives to a word as to others at the same distance; in the "
    "table, also as other words give to it."
)


def times(word: dict[str, Any]) -> str:
    return f"×{word['times']:,.0f}" if word["times"] >= 9.5 else f"×{word['times']:.1f}"


def timed(word: dict[str, Any]) -> str:
    return f"{token_text(word['token'])} {times(word)}"


def token_text(token: str) -> str:
    """A token without its spaces; a blank one as their number."""
    return printable(token.strip(" ")) or f"{len(token)} spaces"


def agreement_of_words(found: dict[str, Any]) -> str:
    """How far the words agree with attention on text, in a sentence; says what is uncertain."""
    parts = []
    for name, of in (("keys", "whoever asks"), ("pairs", "of each word")):
        each = found[name]
        if each["agreement"] is None or each["control"] is None:
            parts.append(f"{of} not known")
            continue
        uncertain = "" if each["certain"] else ", so these are uncertain"
        parts.append(f"{of} {each['agreement']:.2f} (other words: {each['control']:.2f}{uncertain})")
    return f"Correlation with its attention on text: {'; '.join(parts)}."


def shown_relations(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The relations whose examples are worth showing: those implemented, else the strongest one."""
    implemented = [each for each in facts["relations"] if each["implements"]]
    return implemented[:4] or facts["relations"][:1]


def share(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f}"


def counted(hits: int | None, pairs: int | None) -> str:
    return NOT_MEASURED if hits is None else f"{hits}/{pairs}"


def interval(ends: list[float] | None) -> str:
    return NOT_MEASURED if ends is None else f"{max(0.0, ends[0]):.2f}–{ends[1]:.2f}"


def uncopied(each: dict[str, Any]) -> str:
    """Hits among the pairs that copying misses, or why there are none to show."""
    found = each["score_copying"]
    if found is None:
        return NOT_MEASURED
    if found == "itself":
        return "copying itself"
    if found == "inseparable":
        return f"too few ({each['score_uncopied_pairs']})"
    return counted(each["score_uncopied_hits"], each["score_uncopied_pairs"])


def q_value(q: float | None) -> str:
    if q is None:
        return NOT_MEASURED
    return "<0.001" if q < 0.001 else f"{q:.3f}"


def evidence_rows(facts: dict[str, Any]) -> dict[str, list[str] | None]:
    """What the running model said, by measurement; None for what was not measured."""
    rows = {"validation": validation_rows(facts), "ablation": ablation_rows(facts), "copying": removal_rows(facts)}
    # From elsewhere: what nobody imported is not missing.
    return rows if facts["headvis"] is None else rows | {"HeadVis": headvis_rows(facts["headvis"])}


def headvis_rows(row: dict[str, Any]) -> list[str]:
    """A line with HeadVis' metrics of a head, in its words."""
    values = ", ".join(f"{name} {NOT_MEASURED if row[name] is None else format(row[name], '.2f')}" for name in METRICS)
    return [f"{values} (its definitions: first token included, entropy in nats)"]


def removal_rows(facts: dict[str, Any]) -> list[str] | None:
    """A line about copying from context without the head, or None if it was not removed."""
    row = facts["removal"]
    if row is None:
        return None
    return [
        f"copying from context without it: {row['probability']:.2f} ({row['accuracy']:.0%} right), falls by "
        f"{row['probability_fall']:.2f} (95 %: {row['probability_low']:.2f} to {row['probability_high']:.2f})"
    ]


def validation_rows(facts: dict[str, Any]) -> list[str] | None:
    """A line per relation shown and condition, or None if the running model was not measured."""
    if facts["validation"] is None:
        return None
    shown = {each["relation"]: each for each in shown_relations(facts)}
    return [
        f"{relation_title(row['relation'])}, {row['condition']}, "
        f"sources of {row['tokens']} token{'s' * (row['tokens'] != 'one')}: "
        f"{row['score']:.2f} ({row['hits']} of {count(row['prompts'], 'prompt')}; from the weights "
        f"{shown[row['relation']]['score']:.2f})"
        for row in facts["validation"]
        if row["relation"] in shown
    ]


def ablation_rows(facts: dict[str, Any]) -> list[str] | None:
    """A line per relation shown and task: accuracy before and after its heads, or random ones, were removed."""
    if facts["ablation"] is None:
        return None
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in facts["ablation"]:
        if row["order"] == BY_OTHER_SCORE:
            continue
        order = "random heads" if is_random_order(row["order"]) else "its heads"
        groups.setdefault((row["relation"], row["task"], order), []).append(row)
    lines = []
    for (relation, task, order), rows in groups.items():
        most = max(row["removed"] for row in rows)
        before, after = (_accuracy([row for row in rows if row["removed"] == removed]) for removed in (0, most))
        heads = f"heads of {relation_title(relation)}" if order == "its heads" else order
        lines.append(f"{task} without {most} {heads}: {before} to {after}")
    return lines


def _accuracy(rows: list[dict[str, Any]]) -> str:
    prompts = sum(row["prompts"] for row in rows)
    return f"{sum(row['correct'] for row in rows) / prompts:.2f}" if prompts else NOT_MEASURED
