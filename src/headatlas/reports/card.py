"""A head's card as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headatlas.analysis.ablation import is_random_order
from headatlas.reports.text import code, escape, table

if TYPE_CHECKING:
    from headatlas.analysis.card import Card

NOT_MEASURED = "not measured"
MOST_RELATIONS, MOST_OPERATIONS = 8, 15


def write_card(card: Card) -> str:
    """The card's text; every word from a model or file is escaped."""
    told = card.as_dict()
    parts = [f"# {card.name} of {escape(told['model']['name'])}", _head(told), _relations(told), _examples(told)]
    parts += [_evidence(told), _salient(told), _neighbours(told)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(told: dict[str, Any]) -> str:
    description = told["description"]
    if description is None:
        sentence = f"What it does most: {NOT_MEASURED}."
    elif description["rule"] == "unclear":
        sentence = "What it does most is unclear."
    else:
        sentence = f"{escape(description['description'])} (confidence {description['confidence']:.2f})."
    lines = [
        sentence,
        "",
        f"- Categories ({escape(told['profile'])}): {', '.join(map(escape, told['categories'])) or 'none'}",
        f"- Layer {told['layer']}: {told['layer_context']['classified']} of {told['layer_context']['n_heads']} heads "
        f"have a category",
        f"- Circuit: {escape(told['validity']['kind'])}"
        + (f" ({escape(told['validity']['why'])})" if told["validity"]["why"] else ""),
        f"- Measured: {escape(told['measure'])}, {escape(told['label'])}",
    ]
    if told["model"]["note"]:
        lines.append(f"- {escape(told['model']['note'])}")
    return "\n".join(lines)


def _relations(told: dict[str, Any]) -> str:
    header = ["relation", "category", "score", "hits", "95 % interval", "chance", "q", "suppression"]
    rows = [
        [
            code(each["relation"]) + (" **✓**" if each["implements"] else ""),
            escape(each["category"]),
            f"{each['score']:.2f}",
            counted(each["hits"], each["pairs"]),
            interval(each["score_interval"]),
            share(each["score_chance"]),
            q_value(each["score_q"]),
            share(each["suppression"]),
        ]
        for each in told["relations"][:MOST_RELATIONS]
    ]
    return (
        f"## Strongest relations\n\n✓: implemented, by {escape(told['profile'])} above {told['threshold']}\n\n"
        + table(header, rows, (2, 3, 4, 5, 6, 7))
    )


def _examples(told: dict[str, Any]) -> str:
    lines = []
    for each in shown_relations(told):
        examples = each["examples"]
        if examples is None:
            return f"## Examples\n\n{NOT_MEASURED}"
        for name in ("hit", "missed", "suppressed"):
            if examples[name]:
                pairs = ", ".join(f"{escape(source)} → {escape(target)}" for source, target in examples[name])
                lines.append(f"- {code(each['relation'])}, {name}: {pairs}")
    return "## Examples\n\n" + ("\n".join(lines) or "none")


def _evidence(told: dict[str, Any]) -> str:
    lines = []
    for name, rows in (("validation", validation_rows(told)), ("ablation", ablation_rows(told))):
        if rows is None:
            lines.append(f"- {name}: {NOT_MEASURED}")
        lines += [f"- {name}: {escape(row)}" for row in rows or ()]
    return "## Evidence of the running model\n\n" + ("\n".join(lines) or "none for its relations")


def _salient(told: dict[str, Any]) -> str:
    if told["salient"] is None:
        return f"## Salient operations\n\n{NOT_MEASURED}"
    rows = [
        [
            escape(each["token"]),
            f"{each['amplification']:.2f}",
            ", ".join(map(escape, each["promoted"])),
            ", ".join(map(escape, each["suppressed"])),
        ]
        for each in told["salient"][:MOST_OPERATIONS]
    ]
    return "## Salient operations\n\n" + table(["token", "amplified", "promotes", "suppresses"], rows, (1,))


def _neighbours(told: dict[str, Any]) -> str:
    group, similar = told["key_value_group"], told["similar"]
    alike = (
        NOT_MEASURED
        if similar is None
        else ", ".join(f"{each['name']} ({each['similarity']:.2f})" for each in similar) or "none"
    )
    shared = "not known" if group is None else ", ".join(each["name"] for each in group["heads"])
    return f"## Neighbours\n\n- Most alike: {alike}\n- Same key-value head: {shared}"


# Pieces that the screen shows as well


def shown_relations(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The relations whose examples are worth showing: those implemented, else the strongest one."""
    implemented = [each for each in told["relations"] if each["implements"]]
    return implemented[:4] or told["relations"][:1]


def share(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f}"


def counted(hits: int | None, pairs: int | None) -> str:
    return NOT_MEASURED if hits is None else f"{hits}/{pairs}"


def interval(ends: list[float] | None) -> str:
    return NOT_MEASURED if ends is None else f"{max(0.0, ends[0]):.2f}–{ends[1]:.2f}"


def q_value(q: float | None) -> str:
    if q is None:
        return NOT_MEASURED
    return "<0.001" if q < 0.001 else f"{q:.3f}"


def validation_rows(told: dict[str, Any]) -> list[str] | None:
    """A line per relation shown and condition, or None where the running model was not looked at."""
    if told["validation"] is None:
        return None
    shown = {each["relation"]: each for each in shown_relations(told)}
    return [
        f"{row['relation']}, {row['condition']}, sources of {row['tokens']} token{'s' * (row['tokens'] != 'one')}: "
        f"{row['score']:.2f} ({row['hits']} of {row['pairs']}; from the weights {shown[row['relation']]['score']:.2f})"
        for row in told["validation"]
        if row["relation"] in shown
    ]


def ablation_rows(told: dict[str, Any]) -> list[str] | None:
    """A line per relation shown and task: accuracy before and after its heads, or random ones, were removed."""
    if told["ablation"] is None:
        return None
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in told["ablation"]:
        order = "random heads" if is_random_order(row["order"]) else "its heads"
        groups.setdefault((row["relation"], row["task"], order), []).append(row)
    lines = []
    for (relation, task, order), rows in groups.items():
        most = max(row["removed"] for row in rows)
        before, after = (_accuracy([row for row in rows if row["removed"] == removed]) for removed in (0, most))
        lines.append(f"{task} without {most} {'heads of ' + relation if order == 'its heads' else order}: "
                     f"{before} to {after}")  # fmt: skip
    return lines


def _accuracy(rows: list[dict[str, Any]]) -> str:
    prompts = sum(row["prompts"] for row in rows)
    return f"{sum(row['correct'] for row in rows) / prompts:.2f}" if prompts else NOT_MEASURED
