"""The section of the report about sentences that a language model wrote, and lines about them."""

from __future__ import annotations

from typing import Any

from headatlas.analysis.written import CHANCE, MOST_QUESTIONS, OPTIONS, Summary, best_first, read_written, summarise
from headatlas.atlas import Atlas, head_name
from headatlas.reports.blocks import Block, heading, paragraph, table
from headatlas.reports.text import count

MOST_ROWS = 12


def written_sentences(atlas: Atlas) -> list[Block]:
    """How well the sentences name their heads, next to those of the rules, and the best; nothing if there are none."""
    rows, facts = read_written(atlas), atlas.manifest.evidence.written
    if not rows or facts is None:
        return []
    cells = [
        [head_name(*place), f"{each.correct}/{each.questions}", f"{each.rules_correct}/{each.questions}", each.sentence]
        for place, each in best_first(rows)[:MOST_ROWS]
    ]
    scores = summary_sentence(summarise(rows.values()))
    return [
        heading("Sentences by a language model"),
        paragraph(
            f"{facts.model} (at {facts.host}; prompt {facts.prompt_version}) wrote a sentence about each of "
            f"{count(len(rows), 'head')} from a part of its mappings. Given a sentence alone, it then picked the "
            f"head's held-out mappings among {OPTIONS} groups, up to {MOST_QUESTIONS} times. {scores} The sentences "
            f"are a language model's, and may be wrong."
        ),
        table(["head", "right", "rules", "sentence"], cells, (1, 2)),
    ]


def summary_sentence(found: Summary) -> str:
    """The scores in words, with their intervals and the level of chance."""

    def share(name: str) -> str:
        mean, low, high = getattr(found, name)
        return f"{mean:.2f} (95 %: {low:.2f} to {high:.2f})"

    unanswered = f" {count(found.unanswered, 'question')} without an answer count as wrong." * (found.unanswered > 0)
    return (
        f"Right: {share('score')} with its sentences, {share('rules')} with those of the rules, {CHANCE:.2f} by chance "
        f"({count(found.heads, 'head')}, {count(found.questions, 'question')}); difference {share('difference')}."
        f"{unanswered}"
    )


def written_line(written: dict[str, Any]) -> str:
    """A head's sentence with its score, for its card."""
    return (
        f"{written['sentence']} ({written['model']}; right {written['correct']} of {written['questions']}, the rules' "
        f"sentence {written['rules_correct']} of {written['questions']}; {written['chance']:.2f} by chance)"
    )
