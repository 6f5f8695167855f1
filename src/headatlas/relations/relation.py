"""A relation: pairs of words, with the category, the class of `k` and the source they came with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from headatlas.errors import RelationError

K_CLASSES = ("standard", "copying")
OTHER = "Other"
"""The category of a relation that names none."""

CATEGORIES = ("Algorithmic", "Knowledge", "Linguistic", "Translation")
"""The categories of the built-in relations, in the order in which figures show them."""


@dataclass(frozen=True)
class Relation:
    """Pairs `source -> target` of bare words (no leading space).

    Args:
        name: identifies the relation in files, tables and on the command line.
        pairs: (source, target); several targets per source are legitimate.
        category: what a head that implements the relation is counted as.
        k: `standard`, `copying`, or a number of its own for this relation.
        description, source, license: one sentence each, for people.
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
        known = self.k in K_CLASSES or (isinstance(self.k, int) and not isinstance(self.k, bool) and self.k >= 1)
        if not known:
            raise RelationError(
                f"relation {self.name!r}: "
                f"k must be 'standard', 'copying' or a whole number of at least 1, found {self.k!r}."
            )
        if not self.pairs:
            raise RelationError(f"relation {self.name!r}: expected at least one pair, found none.")

    @property
    def hash(self) -> str:
        """SHA-256 over all that can change a score or a category: name, category, k and pairs in their order."""
        content = json.dumps([self.name, self.category, self.k, self.pairs], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()


def set_hash(relations: list[Relation]) -> str:
    """SHA-256 of a set of relations, whatever their order."""
    return hashlib.sha256("\n".join(sorted(relation.hash for relation in relations)).encode()).hexdigest()
