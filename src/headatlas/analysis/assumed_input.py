"""Whether a map's input is what the heads of its model read, and the sentence about a map for which it is not."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from statistics import median

from headatlas.atlas import Atlas
from headatlas.settings import LEAST_COSINE


@dataclass(frozen=True)
class InputCosines:
    """How alike a map's input and what the model's own layers hand to the heads are, see `InputFacts`.

    Args:
        median, lowest, highest: of the layers' mean cosines.
    """

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class InputWarning:
    """What readers of a map have to know first: a sentence, and the command that makes a better map."""

    sentence: str
    command: str

    def __str__(self) -> str:
        return f"{self.sentence} {self.command}"


def input_cosines(atlas: Atlas) -> InputCosines | None:
    """The cosines of an atlas's input; None if they were not measured."""
    facts = atlas.manifest.input
    found = [] if facts is None else [each for each in facts.cosines if each is not None]
    return InputCosines(median(found), min(found), max(found)) if found else None


def input_warning(atlas: Atlas) -> InputWarning | None:
    """The warning about a map that does not see its model; None for all others."""
    found = input_cosines(atlas)
    if found is None or found.median >= LEAST_COSINE:
        return None
    return InputWarning(
        f"This map does not see its model: what the heads of most layers read has little in common with the input that "
        f"the map assumes (mean cosine {found.median:.2f}, the median over layers; expected at least {LEAST_COSINE}). "
        f"The profile alone reads what the model's own layers hand to the heads:",
        f"headatlas map {shlex.quote(atlas.manifest.model.source)} --profile alone -o DIR",
    )
