"""Names of relations as people read them; identifiers stay what files, options and JSON use."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headatlas.errors import find_name

ARROW = "→"

WORDS = {
    "adj": "adjective",
    "american": "American",
    "british": "British",
    "english": "English",
    "french": "French",
    "german": "German",
    "italian": "Italian",
    "portuguese": "Portuguese",
    "spanish": "Spanish",
    "us": "US",
}
"""Parts of the built-in names that are short for something, or that English writes with a capital."""


def relation_title(name: str) -> str:
    """
    >>> relation_title("us_state_to_capital"), relation_title("name_copying"), relation_title("adj_to_adverb")
    ('US state → capital', 'name copying', 'adjective → adverb')
    """
    sides = [" ".join(WORDS.get(word, word) for word in side.split("_") if word) for side in name.split("_to_")]
    # A name of a user's own that holds no such words, or only the signs between them.
    return f" {ARROW} ".join(sides) if all(sides) else name


def find_relation(what: str, value: str, known: Sequence[str]) -> str:
    """The name of the relation that was meant: its name in any case, or its title.

    Raises:
        SettingsError: there is none, or several.

    >>> find_relation("relation", "US state -> capital", ["us_state_to_capital", "name_copying"])
    'us_state_to_capital'
    """
    title = _comparable(value)
    titled = [name for name in known if _comparable(relation_title(name)) == title]
    if len(titled) == 1 and value not in known:
        return titled[0]
    return find_name(what, value, known)


def _comparable(title: str) -> str:
    return re.sub(rf"\s*(?:->|{ARROW})\s*", "->", " ".join(title.split())).casefold()
