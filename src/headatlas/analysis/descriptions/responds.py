"""What a head responds to: what the tokens that it amplifies most have in common.

Their common class of words, or a topic: words whose embeddings are close to each other. A class is compared with its
share of the vocabulary, a topic with random tokens of the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from headatlas.analysis.descriptions.finding import (
    FEWEST_TOKENS,
    MIN_EXCESS,
    MIN_SHARE,
    MOST_EXAMPLES,
    Finding,
    Operation,
    at_least,
    listed,
)
from headatlas.analysis.descriptions.rules import is_other_form
from headatlas.analysis.descriptions.usual import Usual
from headatlas.analysis.descriptions.words import CLOSED, GENERAL, all_classes, classes_of, is_content

if TYPE_CHECKING:
    import numpy as np

    from headatlas.analysis.descriptions.neighbourhood import Neighbourhood

MOST_P, MOST_P_AMONG = 1e-4, 1e-3
"""Largest probability by chance of what a head is said to respond to, and of a closed class among function words."""

SECOND_SHARE = 0.2
"""Least share of tokens of a second class or topic."""

GENERAL_SHARE = 0.4
"""Least share of tokens of a general class alone, which says less than a special one."""

AFTER_GENERAL = 0.15
"""Least share of tokens of the classes that are named after a general one."""

ABOVE_ALL = 0.5
"""Least share of function words that are of one closed class, for it to be named."""

MOST_CLASSES, FEWEST_OF_CLASS = 3, 3
"""Classes that are named if none has enough tokens alone but all together have, and fewest tokens of each."""

BROAD = frozenset({"verbs", "adjectives"})
"""Classes so wide that a topic among their words says more than the first of these."""

CAPITALS = frozenset(
    {"capitalised words", "first names", "places", "nationalities", "months", "weekdays", "words in capitals"}
    | {"pieces of words", "names and signs of code"}
)
"""Classes of which it goes without saying, or says nothing, that their words are capitalised."""

SPECIAL = 0.6
"""One or two special classes are named instead of a general one if they hold for this share of the latter's tokens."""

MOST_PARTS, MOST_TOPICS = 2, 3
"""Classes that are named, or one class and topics; groups of words that a topic may have."""

SMALL_TOPIC = 3
"""Fewest words of a group."""

CAPITALISED = 0.85
"""From this share on, the tokens of a class are called capitalised."""

N_DRAWS, SHARE_LARGER, SEED = 1000, 0.01, 22
"""Random sets of tokens that a topic is compared with, share of them that may have a larger one, and their seed."""


def responds_to(
    operations: Sequence[Operation], usual: Usual | None, neighbourhood: Neighbourhood | None
) -> Finding | None:
    """The clause about the tokens that a head amplifies most; None if they have nothing in common."""
    chosen = {operation.token.strip().casefold(): operation for operation in reversed(operations)}
    tokens = [operation for operation in operations if chosen[operation.token.strip().casefold()] is operation]
    if len(tokens) < FEWEST_TOKENS:
        return None
    named = [] if usual is None else _classes(tokens, usual)
    rest, parts, share, chance, rule = tokens, [], 0.0, 0.0, "topic"
    for name in named:
        parts.append(f"{'' if parts else _capitalised(tokens, name)}{name} ({_examples(rest, name)})")
        rest = [each for each in rest if name not in classes_of(each.token)]
    if usual is not None and named:
        rule = f"responds to {named[0]}"
        share, chance = 1 - len(rest) / len(tokens), sum(usual.read.get(name, 0.0) for name in named)
    if neighbourhood is not None and len(named) < MOST_PARTS:
        topics = _topics(rest, neighbourhood)
        members = _of_topics(rest, topics)
        if topics and (not named or members >= SECOND_SHARE * len(tokens)):
            parts.append(f"words such as {_shown(topics)}")
            share += members / len(tokens)
            chance += usual_size(neighbourhood, len(rest)) / len(tokens)
    if usual is not None and len(parts) == len(named) == 1:
        parts = [_narrowed(tokens, named[0], usual, neighbourhood) or parts[0]]
    if not parts or share < MIN_SHARE:
        return None
    joined = " and ".join(parts) if len(parts) < MOST_CLASSES else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return Finding(rule, f"responds most to {joined}", share, chance, "reads")


def _shown(topics: Sequence[Sequence[Operation]]) -> str:
    shown = MOST_EXAMPLES if len(topics) == 1 else SMALL_TOPIC
    return " and ".join(listed([each.token for each in topic[:shown]]) for topic in topics)


def _of_topics(tokens: Sequence[Operation], topics: Sequence[Sequence[Operation]]) -> int:
    """The number of tokens that are a word of a topic or another form of one."""
    words = [each.token.strip() for topic in topics for each in topic]
    return sum(
        is_content(each.token)
        and any(word == each.token.strip() or is_other_form(each.token.strip(), word) for word in words)
        for each in tokens
    )


def _narrowed(tokens: Sequence[Operation], name: str, usual: Usual, neighbourhood: Neighbourhood | None) -> str | None:
    """More about the only class, if that is a wide one: what most of it is, or its topic; None if there is no more."""
    title = f"{_capitalised(tokens, name)}{name}"
    if name == "function words" and (closed := _closed_class(tokens, usual)) is not None:
        return f"{title}, above all {closed} ({_examples(tokens, closed)})"
    if name in BROAD and neighbourhood is not None:
        # Words of the class may have a topic together with words that are not of it.
        topics = _topics(tokens, neighbourhood)
        if _of_topics(tokens, topics) >= MIN_SHARE * len(tokens):
            return f"{title} and words such as {_shown(topics)}"
    return None


def _classes(tokens: Sequence[Operation], usual: Usual) -> list[str]:
    """One or two classes that the tokens are of more often than the vocabulary is."""
    special = _two_classes(tokens, usual, [name for name in all_classes() if name not in GENERAL] + _scripts(tokens))
    general = _best_class(tokens, len(tokens), usual, MIN_SHARE, list(GENERAL))
    covered = sum(any(name in classes_of(each.token) for name in special) for each in tokens)
    if general is None or covered >= SPECIAL * sum(general in classes_of(each.token) for each in tokens):
        return special or _several_classes(tokens, len(tokens), usual, MIN_SHARE, MOST_CLASSES)
    rest = [each for each in tokens if general not in classes_of(each.token)]
    second = _best_class(
        rest, len(tokens), usual, SECOND_SHARE, [name for name in all_classes() if name not in GENERAL]
    )
    if second is not None:
        return [general, second]
    if len(tokens) - len(rest) < GENERAL_SHARE * len(tokens):
        return special or _several_classes(tokens, len(tokens), usual, MIN_SHARE, MOST_CLASSES)
    return [general, *_several_classes(rest, len(tokens), usual, AFTER_GENERAL, MOST_CLASSES - 1)]


def _two_classes(tokens: Sequence[Operation], usual: Usual, names: Sequence[str]) -> list[str]:
    first = _best_class(tokens, len(tokens), usual, MIN_SHARE, names)
    if first is None:
        return []
    rest = [each for each in tokens if first not in classes_of(each.token)]
    second = _best_class(rest, len(tokens), usual, SECOND_SHARE, names)
    return [first] if second is None else [first, second]


def _several_classes(tokens: Sequence[Operation], n: int, usual: Usual, least: float, most: int) -> list[str]:
    """Up to `most` classes that together have the share `least` of all `n` tokens; none if there are no such.

    Each is more frequent than by chance among the tokens that the earlier ones leave.
    """
    names = [name for name in all_classes() if name not in GENERAL] + _scripts(tokens)
    chosen: list[str] = []
    rest = list(tokens)
    while rest and len(chosen) < most:
        name = _best_class(rest, len(rest), usual, FEWEST_OF_CLASS / len(rest), names, excess=0.0)
        if name is None:
            break
        chosen.append(name)
        rest = [each for each in rest if name not in classes_of(each.token)]
    n_named, chance = len(tokens) - len(rest), sum(usual.read.get(name, 0.0) for name in chosen)
    is_enough = n_named >= least * n and n_named >= (MIN_EXCESS + chance) * len(tokens)
    return chosen if is_enough else []


def _closed_class(tokens: Sequence[Operation], usual: Usual) -> str | None:
    """The closed class of most function words, if it is more frequent than among those of the vocabulary."""
    function_words = [each for each in tokens if "function words" in classes_of(each.token)]
    of_all = usual.read.get("function words", 0.0)
    if not of_all:
        return None
    among = Usual(read={name: min(1.0, usual.read.get(name, 0.0) / of_all) for name in CLOSED})
    return _best_class(function_words, len(function_words), among, ABOVE_ALL, list(CLOSED), most_p=MOST_P_AMONG)


def _scripts(tokens: Sequence[Operation]) -> list[str]:
    return sorted({name for each in tokens for name in classes_of(each.token) if name not in all_classes()})


def _best_class(
    tokens: Sequence[Operation],
    n: int,
    usual: Usual,
    least: float,
    names: Sequence[str],
    excess: float = MIN_EXCESS,
    most_p: float = MOST_P,
) -> str | None:
    """The class that chance explains least, with its share of all `n` tokens; None if none is clear."""
    found: list[tuple[float, str]] = []
    for name in names:
        count, chance = sum(name in classes_of(each.token) for each in tokens), usual.read.get(name, 0.0)
        enough = CAPITALISED if name == "capitalised words" else least
        if count and count >= enough * n and count / len(tokens) - chance >= excess:
            found.append((at_least(count, len(tokens), chance), name))
    best = min(found, default=None)
    return None if best is None or best[0] > most_p else best[1]


def _capitalised(tokens: Sequence[Operation], name: str) -> str:
    """`capitalised `, if nearly all tokens of a class are and that does not go without saying."""
    named = [classes_of(each.token) for each in tokens if name in classes_of(each.token)]
    share = sum("capitalised words" in classes for classes in named) / len(named)
    return "capitalised " if name not in CAPITALS and share >= CAPITALISED else ""


def _examples(tokens: Sequence[Operation], name: str) -> str:
    return listed([each.token for each in tokens if name in classes_of(each.token)][:MOST_EXAMPLES])


def _topics(tokens: Sequence[Operation], neighbourhood: Neighbourhood) -> list[list[Operation]]:
    """Groups of words around one of them, the largest first; none if they are no larger than in random sets.

    Function words, names and pieces of words are left out, which lie close together without a topic, and so are words
    that begin alike.
    """
    words: list[Operation] = []
    for each in tokens:
        if is_content(each.token) and not any(is_alike(each.token, other.token) for other in words):
            words.append(each)
    if len(words) < FEWEST_TOKENS:
        return []
    ids = [each.token_id for each in words]
    groups = _groups(neighbourhood.cosines(ids, ids) > neighbourhood.least)
    if sum(map(len, groups)) <= usual_size(neighbourhood, len(words)):
        return []
    return [[words[at] for at in group] for group in groups]


def _groups(close: np.ndarray) -> list[list[int]]:
    """The groups of a topic: each time the item that is close to most others, and these; most central ones first."""
    import numpy as np

    close = close.copy()
    np.fill_diagonal(close, True)
    groups = []
    while len(groups) < MOST_TOPICS:
        at = int(close.sum(1).argmax())
        members = np.flatnonzero(close[at])
        if len(members) < SMALL_TOPIC:
            break
        # The more of the group a word is close to, the more it stands for the group.
        inner = close[np.ix_(members, members)].sum(1)
        groups.append(members[np.argsort(-inner, kind="stable")].tolist())
        close[members] = False
        close[:, members] = False
    return groups


@lru_cache(256)
def usual_size(neighbourhood: Neighbourhood, n: int) -> int:
    """The number of words in groups that `n` random tokens exceed in one of 100 draws."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    close = neighbourhood.sample_close
    n = min(n, len(close))
    sizes = []
    for _ in range(N_DRAWS):
        drawn = generator.choice(len(close), n, replace=False)
        sizes.append(sum(map(len, _groups(close[np.ix_(drawn, drawn)]))))
    return int(np.quantile(sizes, 1 - SHARE_LARGER))


def is_alike(first: str, second: str) -> bool:
    """Whether two words are the same or begin alike, so that they are close in spelling, not in meaning."""
    return begin_alike(beginning(first), beginning(second))


def beginning(word: str) -> str:
    return word.strip().casefold()[:3]


def begin_alike(first: str, second: str) -> bool:
    return first.startswith(second) or second.startswith(first)
