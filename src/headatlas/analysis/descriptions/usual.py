"""What is usual among all heads of a model: the chance level of what one of them reads or writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from headatlas.analysis.descriptions.finding import Operation, different
from headatlas.analysis.descriptions.words import CLOSED, SIGNS, classes_of

SIDES = ("promoted", "suppressed")

LISTED = (
    frozenset({*CLOSED, *SIGNS, "comparatives", "superlatives", "numbers", "ordinals", "months", "weekdays"})
    - frozenset({"single letters", "words in capitals", "white space and blanks"})
)  # fmt: skip
"""Classes whose words or signs are listed, so that a single one of them is no accident of spelling."""


@dataclass(frozen=True)
class Usual:
    """Shares that one head is compared with; what is not in them has the share 0.

    Args:
        read: by class of words, the share of the tokens that could be salient.
        words: by side and word (in any case), the share of all heads' salient tokens that are mapped to it.
        written: by side and class of words, the share of all heads' salient tokens that are mapped to it.
        met: by side and listed class, the share of them that are mapped to at least one whole word of it.
    """

    read: dict[str, float] = field(default_factory=dict)
    words: dict[str, dict[str, float]] = field(default_factory=dict)
    written: dict[str, dict[str, float]] = field(default_factory=dict)
    met: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, heads: Sequence[Sequence[Operation]], vocabulary: Sequence[str] | None = None) -> Usual:
        """What is usual among heads.

        Args:
            vocabulary: the tokens that could be salient; default: all that are, each counted once.
        """
        operations = [operation for head in heads for operation in head]
        tokens = different([operation.token for operation in operations] if vocabulary is None else list(vocabulary))
        read = Counter(name for token in tokens for name in classes_of(token))
        words: dict[str, dict[str, float]] = {}
        written: dict[str, dict[str, float]] = {}
        met: dict[str, dict[str, float]] = {}
        for side in SIDES:
            counts = Counter(word for operation in operations for word in words_of(operation, side))
            words[side] = _shares(counts, len(operations))
            counts = Counter(name for operation in operations for name in written_classes(operation, side))
            written[side] = _shares(counts, len(operations))
            counts = Counter(name for operation in operations for name in met_classes(operation, side))
            met[side] = _shares(counts, len(operations))
        return cls(_shares(read, len(tokens)), words, written, met)


def _shares(counts: Counter[str], total: int) -> dict[str, float]:
    return {name: count / total for name, count in counts.items()}


def words_of(operation: Operation, side: str) -> set[str]:
    """The words that a token is mapped to, in any case."""
    return {word.strip().casefold() for _, word in getattr(operation, side)} - {""}


def written_classes(operation: Operation, side: str) -> set[str]:
    """The classes that two in five of the words that a token is mapped to are of, at least one."""
    mapped = getattr(operation, side)
    counts = Counter(name for _, word in mapped for name in classes_of(word))
    return {name for name, count in counts.items() if count >= max(1, 2 * len(mapped) // 5)}


def met_classes(operation: Operation, side: str) -> set[str]:
    """The listed classes of which a token is mapped to at least one whole word or sign."""
    return {name for word in whole_words(operation, side) for name in classes_of(word) & LISTED}


def whole_words(operation: Operation, side: str) -> list[str]:
    """The mapped tokens that are words or signs by themselves: within a word, `at` and `on` are no prepositions."""
    return [
        word
        for _, word in getattr(operation, side)
        if word.startswith((" ", "▁")) or not word[:1].isalnum() or word[:1].isupper()
    ]
