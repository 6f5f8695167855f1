"""A relation: pairs of words with a name, a category, a class of `k`, and their origin."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass

from headatlas.errors import RelationError

K_CLASSES = ("standard", "copying")

MOST_K = 10**9
"""No vocabulary is as large."""

OTHER = "Other"
"""The category of a relation without a category of its own."""

CATEGORIES = ("Algorithmic", "Knowledge", "Linguistic", "Translation")
"""The categories of the built-in relations, in the order in which figures show them."""


@dataclass(frozen=True)
class Relation:
    """Pairs `source -> target` of bare words (no leading space).

    Args:
        name: identifies the relation in files, in tables and on the command line.
        pairs: (source, target); a source may have several targets.
        category: given to the heads that implement the relation.
        k: `standard`, `copying`, or a number for this relation only.
        description, source, license: one sentence each, for readers.
    """

    name: str
    pairs: tuple[tuple[str, str], ...]
    category: str = OTHER
    k: str | int = "standard"
    description: str = ""
    source: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("category", self.category)):
            if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 100:
                raise RelationError(
                    f"relation {self.name!r}: {what} must be up to 100 printable characters, found {value!r}."
                )
        whole = isinstance(self.k, int) and not isinstance(self.k, bool) and 1 <= self.k <= MOST_K
        if self.k not in K_CLASSES and not whole:
            raise RelationError(
                f"relation {self.name!r}: k must be 'standard', 'copying' or a whole number from 1 to {MOST_K:,}, "
                f"found {repr(self.k)[:40]}."
            )
        for text in itertools.chain(self.pairs, [(self.description, self.source, self.license)]):
            for word in text:
                if not (word.isascii() or _is_text(word)):
                    raise RelationError(
                        f"relation {self.name!r}: expected text, found half of a character (a surrogate) in "
                        f"{word[:40]!r}. Write the character itself instead of \\u escapes."
                    )
        if not self.pairs:
            raise RelationError(f"relation {self.name!r}: expected at least one pair, found none.")

    @property
    def hash(self) -> str:
        """SHA-256 of everything that can change a score or a category: name, category, k, and the pairs in order."""
        content = json.dumps([self.name, self.category, self.k, self.pairs], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()


def _is_text(word: str) -> bool:
    """Whether a word can be written in UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def set_hash(relations: list[Relation]) -> str:
    """SHA-256 of a set of relations; their order does not matter."""
    return hashlib.sha256("\n".join(sorted(relation.hash for relation in relations)).encode()).hexdigest()
