"""What all findings about a head have: the share of its salient tokens that agree, and the share by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

MIN_SHARE, MIN_EXCESS = 0.3, 0.2
"""Least share of salient tokens that agree with a rule, and least difference between that share and chance."""

FEWEST_TOKENS = 5
"""With fewer salient tokens, no rule is tried."""

MOST_EXAMPLES = 4


@dataclass(frozen=True)
class Operation:
    """A salient token and the tokens (id, text) that the head maps it to; texts include the space before words."""

    token_id: int
    token: str
    promoted: tuple[tuple[int, str], ...]
    suppressed: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Finding:
    """A possible part of a description: its rule, its clause, the share that agrees, and the share by chance.

    Args:
        kind: of two findings of one kind, a sentence contains the better one.
    """

    rule: str
    clause: str
    share: float
    chance: float
    kind: str

    @property
    def excess(self) -> float:
        return self.share - self.chance

    @property
    def is_clear(self) -> bool:
        return self.share >= MIN_SHARE and self.excess >= MIN_EXCESS


def at_least(count: int, n: int, share: float) -> float:
    """The probability that at least `count` of `n` agree, if each does so with the probability `share`.

    >>> at_least(1, 2, 0.5)
    0.75
    """
    return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(count, n + 1))


def listed(words: Sequence[str]) -> str:
    return ", ".join(map(quoted, words))


def quoted(word: str) -> str:
    """A word in a sentence: in quotation marks unless it is only letters and digits; white space by its name."""
    stripped = word.strip()
    if not stripped:
        named = {"\n": "line break", "\t": "tab", "\xa0": "no-break space"}
        return next((name for sign, name in named.items() if sign in word), "space")
    if not stripped.isprintable():
        stripped = ascii(stripped)[1:-1]
    return stripped if stripped.isalnum() else f"“{stripped}”"


def different(words: Sequence[str]) -> list[str]:
    """The words without those that differ in case only from an earlier one."""
    return list({word.strip().casefold(): word for word in reversed(words)}.values())[::-1]
