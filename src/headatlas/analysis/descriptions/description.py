"""A sentence about what a head does, derived from its salient operations and its relations by explicit rules.

Each finding has the share of salient tokens (for a relation: of its pairs) that agree, and the share that would agree
by chance. For a rule, the latter is the mean over all re-pairings of a head's salient tokens with the mapped words of
its other tokens. The sentence contains the finding that exceeds chance most, followed by the best finding of another
type. If no finding clearly exceeds chance, the sentence is "unclear".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.analysis.descriptions.rules import Agrees, Rule, all_rules

if TYPE_CHECKING:
    from headatlas.analysis.descriptions.neighbourhood import Neighbourhood

UNCLEAR = "unclear"
MIN_SHARE, MIN_EXCESS = 0.3, 0.2
"""Least share of salient tokens that agree with a rule, and least difference between that share and chance."""

MIN_CONSTANT = 0.5
"""Least share of salient tokens for which the same word is promoted."""

FEWEST_TOKENS = 5
"""With fewer salient tokens, no rule is tried."""

MOST_RELATIONS, MOST_EXAMPLES = 3, 4
NEIGHBOURS = 3
"""A salient token agrees with a shared topic if it is close to at least this many others."""


@dataclass(frozen=True)
class Operation:
    """A salient token and the tokens (id, text) that the head maps it to; texts include the space before words."""

    token_id: int
    token: str
    promoted: tuple[tuple[int, str], ...]
    suppressed: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class KnownRelation:
    """A relation that the head implements, with its score; `chance` is None if it was not measured."""

    name: str
    score: float
    chance: float | None


@dataclass(frozen=True)
class Finding:
    """A possible part of a description: its rule, its clause, the share that agrees, and the share by chance."""

    rule: str
    clause: str
    share: float
    chance: float

    @property
    def excess(self) -> float:
        return self.share - self.chance


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
    usual: dict[str, float] | None = None,
) -> Description:
    """Describe a head in one sentence.

    Args:
        operations: its salient operations.
        relations: the relations that it implements.
        neighbourhood: of all tokens in `operations`; without it, topics are not looked for.
        usual: for each word, the share of all heads' salient tokens that promote it: the chance level of a head that
            promotes it for most tokens.
    """
    findings = [*_relations(relations)]
    if len(operations) >= FEWEST_TOKENS:
        findings += [*_rules(operations), *_constant(operations, usual or {})]
        if neighbourhood is not None:
            findings += [*_mapped_topic(operations, neighbourhood), *_amplified_topic(operations, neighbourhood)]
    findings = sorted((each for each in findings if _is_clear(each)), key=lambda each: -each.excess)
    if not findings:
        return Description(UNCLEAR, UNCLEAR, 0.0)
    first, *others = findings
    # The second clause is a finding of another type.
    second = next((each for each in others if _kind(each) != _kind(first)), None)
    text = first.clause if second is None else f"{first.clause}; {second.clause}"
    return Description(text[0].upper() + text[1:], first.rule, round(first.share, 4))


def _is_clear(finding: Finding) -> bool:
    if finding.rule.startswith("relation "):
        return True
    return finding.share >= MIN_SHARE and finding.excess >= MIN_EXCESS


def _kind(finding: Finding) -> str:
    return {"relation": "relation", "topic": "topic", "constant": "promoted"}.get(
        finding.rule.split(" ")[0], finding.clause.split(" ")[0]
    )


def _relations(relations: Sequence[KnownRelation]) -> list[Finding]:
    ordered = sorted(relations, key=lambda each: (-(each.score - (each.chance or 0)), each.name))
    if not ordered:
        return []
    named = [f"{each.name} ({each.score:.2f})" for each in ordered[:MOST_RELATIONS]]
    more = len(ordered) - len(named)
    clause = f"implements {', '.join(named)}" + (f" and {more} more" if more else "")
    return [Finding(f"relation {ordered[0].name}", clause, ordered[0].score, ordered[0].chance or 0.0)]


def _rules(operations: Sequence[Operation]) -> list[Finding]:
    """The best special rule of each side or, if none is clear, the best general one."""
    findings = []
    for side, verb in (("promoted", "promotes"), ("suppressed", "suppresses")):
        candidates = _Candidates(operations, side)
        for general in (False, True):
            clear = [
                finding
                for rule in all_rules()
                if rule.general == general
                for finding in [_rule(rule, candidates, side, verb)]
                if finding is not None and _is_clear(finding)
            ]
            if clear:
                findings.append(max(clear, key=lambda finding: finding.excess))
                break
    return findings


class _Candidates:
    """Salient tokens and the words that they are mapped to; which of these a rule needs to try."""

    def __init__(self, operations: Sequence[Operation], side: str) -> None:
        self.sources = [operation.token.strip() for operation in operations]
        self.mapped = [[word.strip() for _, word in getattr(operation, side)] for operation in operations]
        self._of: dict[Agrees, list[list[str]]] = {}

    def of(self, rule: Rule) -> list[list[str]]:
        """For each source, the words with what the rule needs."""
        if rule.needs not in self._of:
            self._of[rule.needs] = [
                [word for word in words if rule.needs(source, word)]
                for source, words in zip(self.sources, self.mapped, strict=True)
            ]
        return self._of[rule.needs]


def _rule(rule: Rule, candidates: _Candidates, side: str, verb: str) -> Finding | None:
    sources, mapped = candidates.sources, candidates.mapped
    agreeing = [
        next((word for word in words if rule.agrees(source, word)), None)
        for source, words in zip(sources, candidates.of(rule), strict=True)
    ]
    share = sum(word is not None for word in agreeing) / len(sources)
    if share < MIN_SHARE:
        return None
    others = [
        any(rule.agrees(source, word) for word in words)
        for at, source in enumerate(sources)
        for other, words in enumerate(mapped)
        if other != at
    ]
    shown = [
        f"{_quoted(source)} → {_quoted(word)}"
        for source, word in zip(sources, agreeing, strict=True)
        if word is not None
    ]
    examples = ", ".join(list(dict.fromkeys(shown))[:MOST_EXAMPLES])
    name = rule.name if side == "promoted" else f"{rule.name} (suppressed)"
    return Finding(name, f"{verb} {rule.phrase} ({examples})", share, sum(others) / len(others))


def _constant(operations: Sequence[Operation], usual: dict[str, float]) -> list[Finding]:
    """The same words are promoted for most tokens."""
    counts = Counter(word for operation in operations for word in _words(operation))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    often = [word for word in ordered[:MOST_EXAMPLES] if counts[word] >= MIN_CONSTANT * len(operations)]
    if not often:
        return []
    most = counts[often[0]]
    whatever = "whatever the token" if most == len(operations) else "for most tokens that it amplifies"
    clause = f"promotes {_listed(often)} {whatever}"
    return [Finding("constant", clause, most / len(operations), usual.get(often[0], 0.0))]


def usual_words(heads: Sequence[Sequence[Operation]]) -> dict[str, float]:
    """For each promoted word, the share of all heads' salient tokens that promote it."""
    counts = Counter(word for operations in heads for operation in operations for word in _words(operation))
    total = sum(map(len, heads))
    return {word: count / total for word, count in counts.items()}


def _words(operation: Operation) -> set[str]:
    return {word.strip().casefold() for _, word in operation.promoted} - {""}


def _mapped_topic(operations: Sequence[Operation], neighbourhood: Neighbourhood) -> list[Finding]:
    """Promoted words are close to the token, but not spelt alike."""
    import numpy as np

    sources = [operation.token_id for operation in operations]
    beginnings = [_beginning(operation.token) for operation in operations]
    rows = np.arange(len(sources))
    close = np.zeros((len(sources), len(sources)), dtype=bool)
    shown: list[str] = []
    for other, operation in enumerate(operations):
        cosines = neighbourhood.cosines(sources, [token for token, _ in operation.promoted])
        words = [_beginning(word) for _, word in operation.promoted]
        differs = np.asarray([[not _begin_alike(source, word) for word in words] for source in beginnings])
        best = np.where(differs, cosines, -2).argmax(1)
        close[:, other] = differs[rows, best] & (cosines[rows, best] > neighbourhood.least)
        if close[other, other]:
            shown.append(f"{_quoted(operation.token)} → {_quoted(operation.promoted[best[other]][1])}")
    share = float(close.diagonal().mean())
    chance = float((close.sum() - close.diagonal().sum()) / (close.size - len(close)))
    examples = ", ".join(dict.fromkeys(shown[:MOST_EXAMPLES]))
    return [Finding("topic of each", f"maps words to related ones ({examples})", share, chance)]


def _amplified_topic(operations: Sequence[Operation], neighbourhood: Neighbourhood) -> list[Finding]:
    """The salient tokens are close to each other; several spellings of one word count once."""
    import numpy as np

    different: dict[str, Operation] = {}
    for operation in operations:
        key = operation.token.strip().casefold()
        if not any(_is_alike(key, other) for other in different):
            different[key] = operation
    chosen = list(different.values())
    if len(chosen) < FEWEST_TOKENS:
        return []
    ids = [operation.token_id for operation in chosen]
    cosines = neighbourhood.cosines(ids, ids)
    np.fill_diagonal(cosines, -2)
    agree = (cosines > neighbourhood.least).sum(1) >= NEIGHBOURS
    central = np.argsort(-np.where(agree, np.where(cosines > -2, cosines, 0).sum(1), -np.inf), kind="stable")
    words = _listed([chosen[at].token for at in central[:MOST_EXAMPLES]])
    # For random tokens, the number of close neighbours is binomial.
    chance = _at_least(NEIGHBOURS, len(chosen) - 1)
    return [
        Finding("topic", f"amplifies tokens that are close to each other, such as {words}", float(agree.mean()), chance)
    ]


def _at_least(count: int, n: int) -> float:
    from math import comb

    from headatlas.analysis.descriptions.neighbourhood import SHARE_CLOSE as p

    return 1 - sum(comb(n, number) * p**number * (1 - p) ** (n - number) for number in range(count))


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word in a sentence: in quotation marks unless it is only letters and digits."""
    word = word.strip()
    return word if word.isalnum() else f"“{word}”"


def _is_alike(first: str, second: str) -> bool:
    """Whether two words are the same or begin alike, so that they are close in spelling, not in meaning."""
    return _begin_alike(_beginning(first), _beginning(second))


def _beginning(word: str) -> str:
    return word.strip().casefold()[:3]


def _begin_alike(first: str, second: str) -> bool:
    return first.startswith(second) or second.startswith(first)
