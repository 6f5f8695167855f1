"""Heads with a named function: what they write, where they look, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headatlas.analysis.categories import classify
from headatlas.analysis.meetings import Meeting, find_meetings_between
from headatlas.analysis.reading import BEHAVIOURS, Reading, find_reading

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

STEP = 0.1
"""By how much the limits are changed to show what depends on them."""


@dataclass(frozen=True)
class Functions:
    """How many heads have a named function, and which ways of reading and writing meet.

    Args:
        reading: where the heads look.
        n_heads: whose attention was measured.
        writing: heads that implement or suppress a relation.
        suppressing: those among them that implement none.
        looking, both: heads with a way of reading; those of them that also write.
        only_sink: heads whose single function is to look at the sink.
        rule: by which categories count: `calibrated` if the atlas knows chance and copying, otherwise `plain`.
        meetings: of each way of reading with each category.
        by_limit: named heads by way of reading if all limits are lower by STEP, as they are, and higher by STEP.
    """

    reading: Reading
    n_heads: int
    writing: int
    suppressing: int
    looking: int
    both: int
    only_sink: int
    rule: str
    meetings: tuple[Meeting, ...]
    by_limit: Mapping[str, tuple[int, int, int]]

    @property
    def any(self) -> int:
        """Heads with a named function."""
        return self.writing + self.looking - self.both


def find_functions(atlas: Atlas, threshold: str | float | None = None) -> Functions | None:
    """The named functions of the heads of an atlas; None if the attention of its heads was not measured.

    Args:
        threshold: of the categories; default: the atlas's own.
    """
    import numpy as np

    reading = find_reading(atlas)
    if reading is None:
        return None
    rule = "calibrated" if atlas.has_copying and atlas.chance() is not None else "plain"
    found = classify(atlas, threshold, "score", rule)
    promotes, looks = (found.count > 0) & reading.measured, reading.count > 0
    suppresses = np.zeros_like(promotes)
    if atlas.has_suppression:
        suppresses = (classify(atlas, threshold, "suppression", rule).count > 0) & reading.measured
    writes = promotes | suppresses
    # Layers without attention heads take no part in a test.
    layers = np.flatnonzero(reading.measured.any(axis=1))
    lower, higher = (
        replace(reading, limits={name: limit + by for name, limit in reading.limits.items()}) for by in (-STEP, STEP)
    )
    return Functions(
        reading=reading,
        n_heads=reading.n_heads,
        writing=int(writes.sum()),
        suppressing=int((suppresses & ~promotes).sum()),
        looking=int(looks.sum()),
        both=int((writes & looks).sum()),
        only_sink=int((reading.only("sink") & ~writes).sum()),
        rule=rule,
        meetings=find_meetings_between(
            [(each.title, reading.of(each.name)[layers]) for each in BEHAVIOURS],
            [(category, found.of(category)[layers]) for category in found.categories],
        ),
        by_limit={
            name: (int(lower.of(name).sum()), int(reading.of(name).sum()), int(higher.of(name).sum()))
            for name in reading.names
        },
    )
