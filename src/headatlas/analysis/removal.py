"""What in-context copying loses without a head: the measured falls, and which of them exceed those of other heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.atlas import head_name

if TYPE_CHECKING:
    from headatlas.atlas import Atlas
    from headatlas.atlas.evidence import RemovalFacts

LEAST_COPYING = 0.05
"""Of a model that gives the right tokens a smaller mean probability, removing heads shows nothing."""


@dataclass(frozen=True)
class Fall:
    """By how much the mean probability of the right token falls without a head, and its 95 % interval.

    Args:
        named: whether the head was removed for its behaviour, not as a control.
        is_clear: the interval excludes 0, and no control falls (or, if it rises, rises) as much.
    """

    value: float
    low: float
    high: float
    named: bool
    is_clear: bool


@dataclass(frozen=True)
class Removal:
    """In-context copying without heads.

    Args:
        facts: of the measurement, with what is lost without all heads of a behaviour.
        falls: of each removed head, (layer, head).
        largest_control: the largest fall without a single control; 0 if there is none.
    """

    facts: RemovalFacts
    falls: Mapping[tuple[int, int], Fall]
    largest_control: float

    @property
    def can_tell(self) -> bool:
        """Whether the whole model copies often enough."""
        return self.facts.probability >= LEAST_COPYING

    def strongest(self, places: list[tuple[int, int]]) -> list[tuple[str, float]]:
        """Of these heads, those with a clear fall, the largest first: name and fall."""
        known = [(place, self.falls[place]) for place in places if place in self.falls]
        clear = [(place, fall.value) for place, fall in known if fall.is_clear and fall.value > 0]
        return [(head_name(*place), value) for place, value in sorted(clear, key=lambda each: (-each[1], each[0]))]

    def clause(self, layer: int, head: int) -> str | None:
        """What is lost without a head, as a part of a sentence; None if that was not measured."""
        fall = self.falls.get((layer, head))
        if fall is None:
            return None
        if not self.can_tell:
            return f"without it: not measurable, the model itself hardly copies ({self.facts.probability:.2f})"
        if fall.is_clear:
            how = "falls" if fall.value > 0 else "rises"
            return f"without it in-context copying {how} by {abs(fall.value):.2f} (from {self.facts.probability:.2f})"
        return f"without it in-context copying does not clearly change ({-fall.value:+.2f})"


def find_removal(atlas: Atlas) -> Removal | None:
    """What in-context copying loses without heads of an atlas; None if that was not measured."""
    facts = atlas.manifest.evidence.removal
    table = atlas.evidence_columns("removal")
    if facts is None or table is None:
        return None
    is_named = table.texts("kind").equal("named")
    values = [table.numbers(f"probability_{name}") for name in ("fall", "low", "high")]
    controls = [0.0, *values[0][table.texts("kind").equal("control")].tolist()]
    smallest, largest = min(controls), max(controls)
    columns = (table.numbers("layer"), table.numbers("head"), *values, is_named)
    falls = {
        (layer, head): Fall(
            fall,
            low,
            high,
            named=named,
            is_clear=named and ((low > 0 and fall > largest) or (high < 0 and fall < smallest)),
        )
        for layer, head, fall, low, high, named in zip(*(each.tolist() for each in columns), strict=True)
    }
    return Removal(facts, falls, largest)
