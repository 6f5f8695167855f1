"""What a head does, in one sentence: where it looks, what it then writes, and what is lost without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.descriptions.description import UNCLEAR
from headatlas.analysis.reading import SINK, find_reading
from headatlas.analysis.removal import find_removal

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

MOST_RELATIONS = 2
"""Relations that are named; the others are counted."""


class Sentences:
    """The sentences of an atlas. What was not measured reads so.

    Args:
        atlas: the atlas.
        classification: which relations the heads implement; default: by the atlas's own rule and threshold.
    """

    def __init__(self, atlas: Atlas, classification: Classification | None = None) -> None:
        self.reading, self.removal = find_reading(atlas), find_removal(atlas)
        found = classify(atlas) if classification is None else classification
        self._implements, self._share = found.implements, atlas.share("score").values
        self._relations, self._copies = atlas.relations, atlas.is_copying
        self._has_heads = atlas.has_heads
        self._descriptions: dict[tuple[int, int], tuple[str, str]] | None = None
        table: Any = atlas.evidence("descriptions")
        if table is not None:
            places = zip(table["layer"], table["head"], strict=True)
            described = zip(table["rule"], table["description"], strict=True)
            self._descriptions = {
                (int(layer), int(head)): (str(rule), str(text))
                for (layer, head), (rule, text) in zip(places, described, strict=True)
            }

    def of(self, layer: int, head: int) -> str | None:
        """The whole sentence; None if the layer has no heads."""
        if not self._has_heads[layer]:
            return None
        looks = self.looks(layer, head)
        return f"{looks or 'Where it looks: not measured'}; {self.consequence(layer, head)}."

    def looks(self, layer: int, head: int) -> str | None:
        """Where it looks; None if that was not measured."""
        return None if self.reading is None else self.reading.looks(layer, head)

    def consequence(self, layer: int, head: int) -> str:
        """What it then writes, and what is lost without it."""
        lost = None if self.removal is None else self.removal.clause(layer, head)
        return f"{self.writes(layer, head)}; {lost or 'without it: not measured'}"

    def writes(self, layer: int, head: int) -> str:
        """What it writes: the relations that it implements, otherwise what its salient operations have in common."""
        import numpy as np

        places: list[int] = np.flatnonzero(self._implements[:, layer, head]).tolist()
        if not places:
            return self._described(layer, head)
        # What comes from a sink is not what relations are about.
        named = self.reading is not None and any(
            self.reading.of(name)[layer, head] for name in self.reading.names if name != SINK
        )
        token = "that token" if named else "the token that it looks at"
        order = sorted(places, key=lambda at: (-self._share[at, layer, head], self._relations[at]))
        copies = [self._named(at, layer, head) for at in order if self._copies[at]]
        others = [self._named(at, layer, head) for at in order if not self._copies[at]]
        parts = [f"{token} again ({copies[0]})"] if copies else []
        if others:
            shown, more = others[:MOST_RELATIONS], len(others) - MOST_RELATIONS
            shown += [f"{more} more relation{'s' * (more > 1)}"] * (more > 0)
            listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
            maps = "map" if len(others) > 1 else "maps"
            parts.append(f"what {listed} {maps} {'it' if copies else token} to")
        return f"writes {' and '.join(parts)}"

    def _named(self, at: int, layer: int, head: int) -> str:
        return f"{self._relations[at]} {self._share[at, layer, head]:.2f}"

    def _described(self, layer: int, head: int) -> str:
        if self._descriptions is None:
            return "no relation names what it writes"
        rule, text = self._descriptions.get((layer, head), (UNCLEAR, UNCLEAR))
        if rule == UNCLEAR or rule.startswith("relation "):  # of another threshold than the one asked for
            return "what it writes has no name"
        # The first clause; examples of pairs stand in the examples.
        clause = re.sub(r" \([^()]*→.*\)$", "", text.split("; ")[0])
        return clause[:1].lower() + clause[1:]
