"""What a head writes: what the words that it promotes or suppresses have in common, or how they follow from the token.

A rule about pairs is compared with all re-pairings of a head's tokens with the words of its other tokens; a word or a
class of words that is written for most tokens, with how often all heads of the model write it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headatlas.analysis.descriptions.finding import (
    FEWEST_TOKENS,
    MIN_EXCESS,
    MIN_SHARE,
    MOST_EXAMPLES,
    Finding,
    Operation,
    listed,
    quoted,
)
from headatlas.analysis.descriptions.responds import begin_alike, beginning
from headatlas.analysis.descriptions.rules import Agrees, Rule, all_rules
from headatlas.analysis.descriptions.usual import SIDES, Usual, met_classes, whole_words, words_of, written_classes
from headatlas.analysis.descriptions.words import GENERAL, SIGNS, classes_of, is_piece, is_readable, unread_kind

if TYPE_CHECKING:
    from headatlas.analysis.descriptions.neighbourhood import Neighbourhood

VERBS = {"promoted": "writes", "suppressed": "suppresses"}

WHATEVER, MOST, OFTEN, OFTEN_PIECE = 0.9, 0.5, 0.4, 0.6
"""Share of tokens from which on a word is written whatever the token is, for most tokens, or often; and from which on a
piece of a word is."""

FIXED = 0.8
"""Share of tokens for which a head writes in one fixed direction, forwards or backwards."""

BACKWARDS = 0.1
"""Share of tokens from which on it is said that a direction is written backwards too."""

GENERAL_LEAD = 0.25
"""A general rule is used instead of a special one if it holds for this share of tokens more."""

CLASS_SHARE, CLASS_EXCESS, GENERAL_SHARE = 0.3, 0.25, 0.5
"""Least share of tokens that are mapped to a class, its least difference from chance, and least share for a general
class, which says less."""

MET_SHARE, MET_EXCESS = 0.4, 0.3
"""Least share of tokens that are mapped to at least one word of a listed class, and least difference from chance."""

SPECIAL_EXCESS = 0.6
"""A special class is named instead of a general one if it exceeds chance by this share of what the latter does."""

UNNAMED = frozenset({"pieces of words", "capitalised words", "names and signs of code", "verbs", "adjectives"})
"""Classes that say nothing about what is written."""


def written_by(
    operations: Sequence[Operation], usual: Usual | None, neighbourhood: Neighbourhood | None
) -> list[Finding]:
    """All clear findings about what a head writes and suppresses."""
    if len(operations) < FEWEST_TOKENS:
        return []
    fixed = _fixed(operations, usual or Usual())
    found = [fixed] if fixed is not None else []
    for side in SIDES:
        found += _rules(operations, side)
        found += _often(operations, side, usual or Usual()) if fixed is None else []
        found += (_classes(operations, side, usual) or _met_class(operations, side, usual)) if usual is not None else []
    if neighbourhood is not None:
        found.append(_related(operations, neighbourhood))
    return [finding for finding in found if finding.is_clear]


def _rules(operations: Sequence[Operation], side: str) -> list[Finding]:
    """The best special rule of a side, or a more general one that holds for clearly more tokens."""
    candidates = _Candidates(operations, side)
    best: dict[int, Finding] = {}
    for rule in all_rules():
        finding = _rule(rule, candidates, side)
        if finding is None or not finding.is_clear:
            continue
        if rule.level not in best or finding.excess > best[rule.level].excess:
            best[rule.level] = finding
    chosen: Finding | None = None
    for level in sorted(best):
        if chosen is None or best[level].excess >= chosen.excess + GENERAL_LEAD:
            chosen = best[level]
    return [] if chosen is None else [chosen]


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


def _rule(rule: Rule, candidates: _Candidates, side: str) -> Finding | None:
    sources, mapped = candidates.sources, candidates.mapped
    agreeing = [
        next((word for word in words if rule.agrees(source, word)), None)
        for source, words in zip(sources, candidates.of(rule), strict=True)
    ]
    share = sum(word is not None for word in agreeing) / len(sources)
    # Most rules hold for none: their chance level need not be known.
    if share < rule.least:
        return None
    others = [
        any(rule.agrees(source, word) for word in words)
        for at, source in enumerate(sources)
        for other, words in enumerate(mapped)
        if other != at
    ]
    pairs = [(source, word) for source, word in zip(sources, agreeing, strict=True) if word is not None]
    shown = [quoted(source) if source == word else f"{quoted(source)} → {quoted(word)}" for source, word in pairs]
    examples = ", ".join(list(dict.fromkeys(shown))[:MOST_EXAMPLES])
    name = rule.name if side == "promoted" else f"{rule.name} (suppressed)"
    clause = f"{VERBS[side]} {rule.phrase} ({examples})"
    return Finding(name, clause, share, sum(others) / len(others), f"{side} rule")


def _often(operations: Sequence[Operation], side: str, usual: Usual) -> list[Finding]:
    """The same words are written for many tokens: words and signs that can be read, otherwise pieces of words."""
    counts = Counter(word for operation in operations for word in words_of(operation, side))
    shown, most = _spellings(operations, side), usual.words.get(side, {})
    chosen = [
        word
        for word in sorted(counts, key=lambda word: (-counts[word], word))
        for share in [counts[word] / len(operations)]
        if share >= OFTEN and share - most.get(word, 0.0) >= MIN_EXCESS
    ]
    readable = [word for word in chosen if is_readable(shown[word])]
    pieces = [word for word in chosen if word not in readable and counts[word] >= OFTEN_PIECE * len(operations)]
    # That the same piece is never written says nothing.
    often = (readable or pieces * (side == "promoted"))[:MOST_EXAMPLES]
    if not often:
        return []
    share, verb = counts[often[0]] / len(operations), VERBS[side]
    # One word alone that is written for some tokens is a name for nothing.
    if share < MOST and len(often) == 1 and "function words" not in classes_of(shown[often[0]]):
        return []
    words = listed([shown[word] for word in often])
    if not readable:
        kind = unread_kind([shown[word] for word in often])
        words = f"the same piece{'s' * (len(often) > 1)} of {kind} ({words})"
    if share >= WHATEVER:
        clause = f"{verb} {words} whatever it reads"
    elif share >= MOST:
        clause = f"{verb} {words} for most tokens"
    else:
        clause = f"often {verb} {words}"
    name = "constant" if side == "promoted" else "constant (suppressed)"
    return [Finding(name, clause, share, most.get(often[0], 0.0), f"{side} words")]


def _spellings(operations: Sequence[Operation], *sides: str) -> dict[str, str]:
    """For each word in any case, its most frequent spelling, with the space in front of it."""
    counts: dict[str, Counter[str]] = {}
    for operation in operations:
        for _, word in (pair for side in sides for pair in getattr(operation, side)):
            counts.setdefault(word.strip().casefold(), Counter())[word] += 1
    return {word: min(found, key=lambda each: (-found[each], each)) for word, found in counts.items()}


def _fixed(operations: Sequence[Operation], usual: Usual) -> Finding | None:
    """One direction for nearly all tokens, of which both ends are seen: the same words up and the same words down."""
    net = sorted(_net(operations).items())
    ends = [
        [word for word, at in sorted(net, key=lambda each: -sign * each[1]) if sign * at > 0][:MOST_EXAMPLES]
        for sign in (1, -1)
    ]
    up, down = map(set, ends)
    if not up or not down:
        return None
    forwards = [
        bool(up & words_of(each, "promoted")) and bool(down & words_of(each, "suppressed")) for each in operations
    ]
    backwards = [
        bool(down & words_of(each, "promoted")) and bool(up & words_of(each, "suppressed")) for each in operations
    ]
    share = sum(map(any, zip(forwards, backwards, strict=True))) / len(operations)
    if share < FIXED:
        return None
    shown = _spellings(operations, *SIDES)
    towards, away = (_end(end, shown) for end in ends)
    if sum(backwards) >= BACKWARDS * len(operations):
        clause = (
            f"writes in one fixed direction, forwards or backwards, whatever it reads: between {towards} and {away}"
        )
    elif not is_readable(shown[ends[0][0]]) or share >= WHATEVER:
        clause = f"writes in one fixed direction whatever it reads: towards {towards}, away from {away}"
    else:
        return None  # The words say more than the direction.
    most = max(usual.words.get("promoted", {}).get(word, 0.0) for word in ends[0])
    return Finding("fixed direction", clause, share, most, "promoted words")


def _net(operations: Sequence[Operation]) -> dict[str, float]:
    """For each word that is often written, at which end of a direction it lies, and for how many tokens.

    `net = signs @ sides` with the sides (1 promoted, -1 suppressed, 0 neither) of all words for all tokens; the sign of
    a token is that of its coordinate in the first singular direction, so that a direction that is written forwards for
    some tokens and backwards for others does not cancel out.
    """
    import numpy as np

    promoted, suppressed = ([words_of(operation, side) for operation in operations] for side in SIDES)
    counts = Counter(word for words in (*promoted, *suppressed) for word in words)
    often = sorted(word for word, count in counts.items() if count >= MIN_SHARE * len(operations))
    if not often:
        return {}
    sides = np.asarray(
        [[(word in up) - (word in down) for word in often] for up, down in zip(promoted, suppressed, strict=True)],
        dtype=np.float64,
    )
    left = np.linalg.svd(sides, full_matrices=False)[0][:, 0]
    signs = np.sign(left.round(9))
    # Forwards is what most tokens are; of half and half, the first one.
    signs *= np.sign(signs.sum() or signs[np.flatnonzero(signs)[0]])
    return dict(zip(often, (signs @ sides).tolist(), strict=True))


def _end(words: Sequence[str], shown: dict[str, str]) -> str:
    """One end of a direction: its words or signs that can be read, otherwise its pieces of words."""
    readable = [shown[word] for word in words if is_readable(shown[word])]
    if 2 * len(readable) >= len(words):
        return listed(readable)
    spelt = [shown[word] for word in words]
    return f"pieces of {unread_kind(spelt)} ({listed(spelt)})"


def _classes(operations: Sequence[Operation], side: str, usual: Usual) -> list[Finding]:
    """The class of words of which two in five are written for most tokens, or for many."""
    chance = usual.written.get(side, {})
    written = [written_classes(operation, side) - UNNAMED for operation in operations]
    counts = Counter(name for names in written for name in names)
    excess = {name: count / len(operations) - chance.get(name, 0.0) for name, count in counts.items()}
    best = max(excess, key=lambda name: (excess[name], name), default=None)
    if best in GENERAL:
        special = {name: more for name, more in excess.items() if name not in GENERAL}
        named = max(special, key=lambda name: (special[name], name), default=None)
        if named is not None and special[named] >= SPECIAL_EXCESS * excess[best]:
            best = named
    if best is None or excess[best] < CLASS_EXCESS or counts[best] < CLASS_SHARE * len(operations):
        return []
    if best in GENERAL and (side == "suppressed" or counts[best] < GENERAL_SHARE * len(operations)):
        return []
    rule = f"{VERBS[side]} {best}"
    words = [
        [word for _, word in getattr(operation, side) if best in names]
        for operation, names in zip(operations, written, strict=True)
    ]
    clause = f"{rule} ({_class_examples(operations, words, best)})"
    general = " general" if best in GENERAL else ""
    return [Finding(rule, clause, counts[best] / len(operations), chance.get(best, 0.0), f"{side} class{general}")]


def _met_class(operations: Sequence[Operation], side: str, usual: Usual) -> list[Finding]:
    """The listed class of which at least one word is written for two in five tokens: more than all heads do so."""
    chance = usual.met.get(side, {})
    counts = Counter(name for operation in operations for name in met_classes(operation, side))
    excess = {name: count / len(operations) - chance.get(name, 0.0) for name, count in counts.items()}
    best = max(excess, key=lambda name: (excess[name], name), default=None)
    if best is None or excess[best] < MET_EXCESS or counts[best] < MET_SHARE * len(operations):
        return []
    rule = f"{VERBS[side]} {best}"
    words = [whole_words(operation, side) for operation in operations]
    clause = f"often {rule} ({_class_examples(operations, words, best)})"
    return [Finding(rule, clause, counts[best] / len(operations), chance.get(best, 0.0), f"{side} class")]


def _class_examples(operations: Sequence[Operation], words: Sequence[Sequence[str]], name: str) -> str:
    """Pairs with different words of the class; only the words if they are signs, which follow from no word.

    Args:
        words: for each operation, those of its words that count for the class.
    """
    pairs = {
        quoted(of_class[0]): quoted(operation.token)
        for operation, mapped in reversed(list(zip(operations, words, strict=True)))
        for of_class in [[word for word in mapped if name in classes_of(word)]]
        if of_class
    }
    shown = list(pairs.items())[::-1][:MOST_EXAMPLES]
    return ", ".join(word if name in SIGNS else f"{token} → {word}" for word, token in shown)


def _related(operations: Sequence[Operation], neighbourhood: Neighbourhood) -> Finding:
    """Promoted words are close to the token, but not spelt alike."""
    import numpy as np

    sources = [operation.token_id for operation in operations]
    beginnings = [beginning(operation.token) for operation in operations]
    rows = np.arange(len(sources))
    close = np.zeros((len(sources), len(sources)), dtype=bool)
    shown: list[str] = []
    for other, operation in enumerate(operations):
        cosines = neighbourhood.cosines(sources, [token for token, _ in operation.promoted])
        words = [beginning(word) for _, word in operation.promoted]
        pieces = [is_piece(word) for _, word in operation.promoted]
        differs = np.asarray(
            [
                [not piece and not begin_alike(source, word) for word, piece in zip(words, pieces, strict=True)]
                for source in beginnings
            ]
        )
        best = np.where(differs, cosines, -2).argmax(1)
        close[:, other] = differs[rows, best] & (cosines[rows, best] > neighbourhood.least)
        if close[other, other] and not is_piece(operation.token):
            shown.append(f"{quoted(operation.token)} → {quoted(operation.promoted[best[other]][1])}")
    share = float(close.diagonal().mean())
    chance = float((close.sum() - close.diagonal().sum()) / (close.size - len(close)))
    examples = ", ".join(list(dict.fromkeys(shown))[:MOST_EXAMPLES])
    return Finding("related words", f"writes words related to the token ({examples})", share, chance, "related")
