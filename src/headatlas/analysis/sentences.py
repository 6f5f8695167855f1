"""What a head does, in one sentence: where it looks, what it then writes, and what is lost without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.descriptions.description import NOTHING_WRITTEN, RESPONDS, UNCLEAR
from headatlas.analysis.reading import SINK, find_reading
from headatlas.analysis.removal import find_removal
from headatlas.relations import relation_title

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

MOST_RELATIONS = 2
"""Relations that are named; the others are counted."""


MAPS = ("Maps ", "maps ")
"""How a description begins to list relations."""

NO_RELATION, NO_NAME = "no relation names what it writes", "what it writes has no name"


class Sentences:
    """The sentences of an atlas, of what was measured.

    Args:
        atlas: the atlas.
        classification: which relations the heads implement; default: by the atlas's own rule and threshold.
    """

    def __init__(self, atlas: Atlas, classification: Classification | None = None) -> None:
        self.reading, self.removal = find_reading(atlas), find_removal(atlas)
        found = classify(atlas) if classification is None else classification
        self._implements, self._share = found.implements, atlas.grid["score"]
        self._suppresses = self._suppression = None
        if atlas.has_suppression:
            self._suppresses = classify(atlas, found.threshold, "suppression", found.rule).implements
            self._suppression = atlas.grid["suppression"]
        self._relations, self._copies = atlas.relations, atlas.is_copying
        self._has_heads = atlas.has_heads
        self._descriptions: dict[tuple[int, int], tuple[str, str]] | None = None
        table = atlas.evidence_columns("descriptions")
        if table is not None:
            self._descriptions = {
                (row["layer"], row["head"]): (row["rule"], row["description"]) for row in table.rows()
            }

    def of(self, layer: int, head: int) -> str | None:
        """The whole sentence; None if the layer has no heads."""
        if not self._has_heads[layer]:
            return None
        clauses = filter(None, (self.looks(layer, head), self.consequence(layer, head)))
        text = "; ".join(clauses)
        return f"{text[:1].upper()}{text[1:]}."

    @property
    def missing(self) -> str | None:
        """A sentence with the command that measures what the sentences lack; None if they lack nothing."""
        lacking = ["where it looks"] * (self.reading is None) + ["what is lost without it"] * (self.removal is None)
        return f"Run headatlas attention to measure {' and '.join(lacking)}." if lacking else None

    def shown(self, layer: int, head: int) -> tuple[str, ...]:
        """Which of `sentence` and `description` a card shows: both, unless one only repeats the other.

        Where nothing else is known of a head, its sentence is its description without examples. A description that is
        only a list of relations says no more than the sentence, which has them too.
        """
        both = ("sentence", "description")
        if self._descriptions is None or (layer, head) not in self._descriptions:
            return both
        lost = None if self.removal is None else self.removal.clause(layer, head)
        named = bool(self._implements[:, layer, head].any())
        if not named and self.looks(layer, head) is None is lost and self._suppressed(layer, head) is None:
            return ("description",)
        clauses = self._descriptions[layer, head][1].split("; ")
        return ("sentence",) if named and all(each.startswith(MAPS) for each in clauses) else both

    def looks(self, layer: int, head: int) -> str | None:
        """Where it looks; None if that was not measured."""
        return None if self.reading is None else self.reading.looks(layer, head)

    def consequence(self, layer: int, head: int) -> str:
        """What it then writes and, if that was measured, what is lost without it."""
        lost = None if self.removal is None else self.removal.clause(layer, head)
        return "; ".join(filter(None, (self.writes(layer, head), lost)))

    def writes(self, layer: int, head: int) -> str:
        """What it writes: the relations that it implements, otherwise what its salient operations have in common."""
        import numpy as np

        places: list[int] = np.flatnonzero(self._implements[:, layer, head]).tolist()
        if not places:
            described, suppressed = self._described(layer, head), self._suppressed(layer, head)
            if suppressed is None:
                return described
            return suppressed if described in (NO_RELATION, NO_NAME) else f"{described} and {suppressed}"
        token = self._token(layer, head)
        order = sorted(places, key=lambda at: (-self._share[at, layer, head], self._relations[at]))
        copies = [self._named(at, layer, head) for at in order if self._copies[at]]
        others = [self._named(at, layer, head) for at in order if not self._copies[at]]
        parts = [f"{token} again ({copies[0]})"] if copies else []
        if others:
            parts.append(f"what {_maps(others)} {'it' if copies else token} to")
        return f"writes {' and '.join(parts)}"

    def _suppressed(self, layer: int, head: int) -> str | None:
        """Whose targets it makes less likely, the strongest first; None if those of no relation, or if not known."""
        import numpy as np

        if self._suppresses is None or self._suppression is None:
            return None
        share = self._suppression[:, layer, head]
        places: list[int] = np.flatnonzero(self._suppresses[:, layer, head]).tolist()
        if not places:
            return None
        order = sorted(places, key=lambda at: (-share[at], self._relations[at]))
        names = [f"{relation_title(self._relations[at])} {share[at]:.2f}" for at in order]
        return f"suppresses what {_maps(names)} {self._token(layer, head)} to"

    def _token(self, layer: int, head: int) -> str:
        # What comes from a sink is not what relations are about.
        named = self.reading is not None and any(
            self.reading.of(name)[layer, head] for name in self.reading.names if name != SINK
        )
        return "that token" if named else "the token that it looks at"

    def _named(self, at: int, layer: int, head: int) -> str:
        return f"{relation_title(self._relations[at])} {self._share[at, layer, head]:.2f}"

    def _described(self, layer: int, head: int) -> str:
        if self._descriptions is None:
            return NO_RELATION
        rule, text = self._descriptions.get((layer, head), (UNCLEAR, UNCLEAR))
        if rule == UNCLEAR or rule.startswith("relation "):  # of another threshold than the one asked for
            return NO_NAME
        clauses = [clause for clause in text.split("; ") if clause != NOTHING_WRITTEN]
        # What it writes, if that has a name, otherwise what it responds to; examples are on the card.
        clause = next((each for each in clauses if not each.startswith((RESPONDS, *MAPS))), clauses[0])
        clause = re.sub(r" \((?:[^()“”]|“[^”]*”)*\)", "", clause)
        return clause[:1].lower() + clause[1:]


def _maps(names: list[str]) -> str:
    """`a 0.90, b 0.80 and 3 more relations map`: the first names, and a verb that agrees with all of them."""
    shown, more = names[:MOST_RELATIONS], len(names) - MOST_RELATIONS
    shown += [f"{more} more relation{'s' * (more > 1)}"] * (more > 0)
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{listed} {'map' if len(names) > 1 else 'maps'}"
