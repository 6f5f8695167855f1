"""The sections of the report about the running model: agreement of its heads with the map, and removal of heads."""

from __future__ import annotations

from typing import Any

from headatlas.analysis.ablation import RemovalPoint, removal_curves
from headatlas.analysis.correlations import Mean, known_correlations, mean_over_relations
from headatlas.atlas import Atlas
from headatlas.atlas.evidence import TOTAL_EFFECT, Ablation, Status
from headatlas.reports.blocks import Block, Code, Inline, heading, line, paragraph, table
from headatlas.reports.text import count, listed

TERMS = {"own": "as in this atlas", "none": "none, as in the paper", "all": "all"}


IN_WORDS = {
    "attention-fixed": "if all its attention is on the word",
    "in-context": "where it looks where it likes",
    TOTAL_EFFECT: "by its total effect on the model's logits",
}


def agreement_in_words(atlas: Atlas, side: str = "score") -> str | None:
    """How far the scores agree with the running model, in a sentence or two; None if that was not measured."""
    means = [
        each
        for each in mean_over_relations(known_correlations(atlas, "own"))
        if each.side == side and each.tokens == "one" and each.pearson is not None and each.condition in IN_WORDS
    ]
    if not means:
        return None
    most = max(each.relations for each in means)
    found = listed(
        f"{_mean(each.pearson)} {IN_WORDS[each.condition]}"
        + ("" if each.relations == most else f" (over {count(each.relations, 'relation')})")
        for each in means
    )
    what = "scores from weights correlate" if side == "score" else "suppression from weights correlates"
    sentence = (
        f"Over heads, the {what} with what each head of the running model writes in texts: {found}; Pearson, mean over "
        f"{count(most, 'relation')}"
    )
    first = means[0].pearson
    known = first is not None and first.low is not None
    return sentence + (", in brackets 95 % bootstrap intervals over relations." if known else ".")


def agreement(atlas: Atlas) -> list[Block]:
    """Mean correlation of the scores with those of the running model; nothing if it was not measured."""
    means = mean_over_relations(known_correlations(atlas, None))
    rows: list[list[Inline]] = [
        [each.condition, TERMS[each.counted], each.side, each.tokens, str(each.relations),
         _mean(each.pearson), _mean(each.pooled), _mean(each.spearman)]
        for each in means
    ]  # fmt: skip
    if not rows:
        return []
    header = [
        "condition",
        "terms",
        "side",
        "source tokens",
        "relations",
        "Pearson",
        "a point per text",
        "Spearman",
    ]
    return [
        heading("Agreement with the running model"),
        *([] if (words := agreement_in_words(atlas)) is None else [paragraph(words)]),
        paragraph(
            "Correlation over heads of the scores from weights with those of the running model's heads, mean over "
            "relations, with 95 % bootstrap intervals over relations. Terms are those between a head and the logits."
        ),
        table(header, rows, right=(4, 5, 6, 7)),
    ]


def ablation(atlas: Atlas) -> list[Block]:
    """What removing the heads of relations does to the running model; nothing if it was not measured."""
    facts, curves = atlas.manifest.evidence.ablation, atlas.evidence("ablation")
    if facts is None or curves is None:
        return []
    tested = [each for each in facts.relations.values() if each.status is Status.TESTED]
    rows = [row for each in tested for row in _removal_rows(each, curves)]
    if not rows:
        return []
    blocks: list[Block] = [
        heading("Removing heads from the running model"),
        paragraph(
            "Accuracy on the task of each relation and mean log-probability of its targets, before and after heads are "
            "removed at the last token. The last column is the accuracy on other tasks, before and after, which tells "
            "heads of this relation from heads that carry any word."
        ),
        table(["relation", "heads", "removed", "accuracy", "log-probability", "other tasks"], rows, right=(2, 3, 4, 5)),
    ]
    missing = [each for each in facts.relations.values() if each.status is not Status.TESTED]
    if missing:
        names = ", ".join(f"{each.relation} ({each.status})" for each in missing)
        blocks.append(paragraph(f"Without a curve: {names}."))
    return blocks


def _removal_rows(found: Ablation, curves: Any) -> list[list[Inline]]:
    curve = removal_curves(curves, found.relation)
    kinds = [
        ("by score" if found.against is None else f"by score, {found.against.own_label}", curve.own, curve.controls)
    ]
    if found.against is not None:
        kinds.append((f"by score, {found.against.label}", curve.other, curve.controls_other))
    kinds.append(("random", curve.random, []))
    return [
        [
            line(Code(found.relation)),
            label,
            str(points[-1].removed),
            _change(points, "accuracy"),
            _change(points, "log_probability"),
            _change(controls, "accuracy") if controls else "not measured",
        ]
        for label, points, controls in kinds
        if len(points) > 1
    ]


def _change(points: list[RemovalPoint], name: str) -> str:
    return f"{getattr(points[0], name):.2f} to {getattr(points[-1], name):.2f}"


def _mean(found: Mean | None) -> str:
    if found is None:
        return "not defined"
    if found.low is None or found.high is None:
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"
