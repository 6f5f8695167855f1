"""All errors that headatlas raises on purpose.

```
HeadatlasError
├── CheckpointError      weights, config or tokenizer cannot be found or read as what they claim to be
├── ArchitectureError    the model's family is unknown, or its tensors do not fit its config
├── RelationError        a relation file or a set of relations is not usable
├── SettingsError        an argument is outside its range, or two arguments contradict each other
├── AtlasError           a folder or a table does not hold the atlas that was asked for
├── EndpointError        a language model's endpoint cannot be reached, refuses, or answers something else
└── EngineError          a cluster cannot be reached, has no room, or fails at the same work again and again
```

Each message is one sentence that says where, what was expected, what was found and what to do. The command line
prints it and exits with 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from headatlas.printable import printable

LONGEST = 3_000
"""Characters of a message."""

FEW = 8
"""Names that a message lists; of more it gives the nearest."""


def expected_names(known: Sequence[str], found: str) -> str:
    """What a message says was expected: all names where they are few, else those most like what was found.

    >>> expected_names(["score", "suppression"], "scores")
    'one of score, suppression'
    """
    from difflib import get_close_matches

    if len(known) <= FEW:
        return f"one of {', '.join(known)}"
    return f"one of {len(known)}, such as {', '.join(get_close_matches(found, known, 4, 0.5) or known[:4])}"


def find_name(what: str, value: str, known: Sequence[str]) -> str:
    """The known name that was meant, whatever its case.

    Raises:
        SettingsError: there is none, or several differ only in case and none is written like that.

    >>> find_name("category", "knowledge", ["Knowledge", "Linguistic"])
    'Knowledge'
    """
    if value in known:
        return value
    same = [name for name in known if name.casefold() == value.strip().casefold()]
    if len(same) != 1:
        raise SettingsError(f"{what}: expected {expected_names(same or known, value)}, found {value!r}.")
    return same[0]


class HeadatlasError(Exception):
    """Base of all errors that headatlas raises on purpose.

    Names and values of files are part of messages, so control characters are shown by their escapes, and what is too
    long for a sentence is cut in its middle.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
        super().__init__(printable(message))


class CheckpointError(HeadatlasError):
    """Weights, config or tokenizer cannot be found, or read as what they claim to be."""


class ArchitectureError(HeadatlasError):
    """The model's family is unknown, or its tensors do not fit its config."""


class RelationError(HeadatlasError):
    """A relation file or a set of relations is not usable."""


class SettingsError(HeadatlasError):
    """An argument is outside its range, or two arguments contradict each other."""


class AtlasError(HeadatlasError):
    """A folder or a table does not hold the atlas that was asked for."""


class EndpointError(HeadatlasError):
    """The endpoint of a language model cannot be reached, refuses, or answers something else."""


class EngineError(HeadatlasError):
    """A cluster cannot be reached, has no room, or fails at the same work again and again."""
