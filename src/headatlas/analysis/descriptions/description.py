"""A sentence about what a head does, derived from its salient operations and its relations by explicit rules.

Each finding has the share of salient tokens (for a relation: of its pairs) that agree, and the share that would agree
by chance. The sentence says what the head responds to, then what it writes, then what it suppresses; a part of which
nothing exceeds chance is left out. If that is all of them, nothing in common was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.analysis.descriptions.finding import FEWEST_TOKENS, Finding, Operation
from headatlas.analysis.descriptions.responds import responds_to
from headatlas.analysis.descriptions.writes import written_by
from headatlas.relations import relation_title

if TYPE_CHECKING:
    from headatlas.analysis.descriptions.neighbourhood import Neighbourhood
    from headatlas.analysis.descriptions.usual import Usual

UNCLEAR = "unclear"
"""The rule of a head for which nothing in common was found."""

NOTHING = "Nothing in common was found"
RESPONDS = "Responds most to "
NOTHING_WRITTEN = "nothing in common was found in what it writes"

MOST_RELATIONS, MOST_WRITTEN = 3, 2
"""Relations that are named, and clauses about what is written or suppressed."""


@dataclass(frozen=True)
class KnownRelation:
    """A relation that the head implements, with its score; `chance` is None if it was not measured."""

    name: str
    score: float
    chance: float | None


@dataclass(frozen=True)
class Description:
    """A head's description; `confidence` is the share of the finding in the first clause, 0 if it is unclear."""

    text: str
    rule: str
    confidence: float


def describe(
    operations: Sequence[Operation],
    relations: Sequence[KnownRelation] = (),
    neighbourhood: Neighbourhood | None = None,
    usual: Usual | None = None,
) -> Description:
    """Describe a head in one sentence.

    Args:
        operations: its salient operations.
        relations: the relations that it implements.
        neighbourhood: of all tokens in `operations`; without it, topics are not looked for.
        usual: what all heads of the model do; without it, classes of words are not looked for.
    """
    reads = responds_to(operations, usual, neighbourhood)
    writes = _chosen([*_relations(relations), *written_by(operations, usual, neighbourhood)])
    findings = [*([] if reads is None else [reads]), *writes]
    if not findings:
        return Description(NOTHING, UNCLEAR, 0.0)
    clauses = [finding.clause for finding in findings]
    if not writes and len(operations) >= FEWEST_TOKENS:
        clauses.append(NOTHING_WRITTEN)
    text = "; ".join(clauses)
    # What a head writes is more than what it responds to.
    main = writes[0] if writes else findings[0]
    return Description(text[0].upper() + text[1:], main.rule, round(main.share, 4))


def _chosen(findings: Sequence[Finding]) -> list[Finding]:
    """The best findings that do not say the same, what is written before what is suppressed."""
    chosen: list[Finding] = []
    for finding in sorted(findings, key=lambda each: (each.kind.endswith("general"), -each.excess, each.rule)):
        if len(chosen) < MOST_WRITTEN and not any(_is_said(finding, other) for other in chosen):
            chosen.append(finding)
    return sorted(chosen, key=lambda each: each.kind.startswith("suppressed"))


def _is_said(finding: Finding, better: Finding) -> bool:
    """Whether a finding adds little to a better one: of the same side, or a direction, which has both sides."""
    side, better_side = finding.kind.split(" ")[0], better.kind.split(" ")[0]
    if better.rule == "fixed direction":
        return side in ("promoted", "suppressed", "related")
    if side == "related":
        return better_side == "promoted" and "class" in better.kind
    return side == better_side


def _relations(relations: Sequence[KnownRelation]) -> list[Finding]:
    ordered = sorted(relations, key=lambda each: (-(each.score - (each.chance or 0)), each.name))
    if not ordered:
        return []
    named = [f"{relation_title(each.name)} ({each.score:.2f})" for each in ordered[:MOST_RELATIONS]]
    more = len(ordered) - len(named)
    clause = f"maps {', '.join(named)}" + (f" and {more} more" if more else "")
    rule = f"relation {ordered[0].name}"
    return [Finding(rule, clause, ordered[0].score, ordered[0].chance or 0.0, "relation")]
