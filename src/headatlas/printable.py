"""Text from files, made safe for a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """The text with every control, format or otherwise unprintable character written as its escape.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )
