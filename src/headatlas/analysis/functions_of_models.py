"""What each model of a survey can do: for every relation and way of reading its strongest head, and how many have it.

A model's strongest head is the largest of many numbers, so its level of chance is that of the luckiest head.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import classify
from headatlas.analysis.reading import BEHAVIOURS, find_reading
from headatlas.atlas import Atlas, head_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

READING = "Where heads look"
"""The category of ways of reading."""


@dataclass(frozen=True)
class ModelFunction:
    """A relation, or a way of reading, in one model.

    Args:
        function: name of the relation or of the behaviour; `category`: its own, or READING.
        pairs: of the relation; None for ways of reading, and where it is not known.
        layer, head: the strongest head, of those that count if any does; None if no head has any share.
        score: its share of pairs or of attention, 0 to 1.
        chance: what it would have by chance, 0 to 1; None if not measured.
        highest_chance: the highest level of chance of all heads; None if not measured.
        q: q-value of the strongest head; None if not measured.
        copying: score of a head that only copies, in the layer of the strongest head; None if not measured.
        depth: of its layer, 0 (first) to 1 (last).
        heads: heads that have the function, as (layer, head): by the rule of the atlas, above the limit of the reading.
        beyond: those beyond chance, and of relations beyond copying; None if not measured.
    """

    function: str
    category: str
    pairs: int | None
    layer: int | None
    head: int | None
    score: float
    chance: float | None
    highest_chance: float | None
    q: float | None
    copying: float | None
    depth: float | None
    heads: tuple[tuple[int, int], ...]
    beyond: tuple[tuple[int, int], ...] | None

    @property
    def name(self) -> str | None:
        """Of the strongest head."""
        return None if self.layer is None or self.head is None else head_name(self.layer, self.head)

    @property
    def has(self) -> tuple[tuple[int, int], ...]:
        """The heads that count: those beyond chance, or all where that is not known."""
        return self.heads if self.beyond is None else self.beyond


def functions_of(atlas: Atlas) -> list[ModelFunction]:
    """The measured relations of an atlas in its order, then the ways of reading, if its attention was measured."""
    own = classify(atlas)
    strict = classify(atlas, rule="calibrated") if atlas.has_copying and atlas.chance() is not None else None
    chance, q, copied = atlas.chance(), atlas.q_values(), atlas.copied
    found = []
    for at, name in enumerate(atlas.relations):
        pairs = int(atlas.data["pairs"].values[at])
        found.append(
            _function(
                name,
                str(atlas.data["category"].values[at]),
                pairs or None,
                atlas.scores.values[at],
                None if chance is None else chance.values[at],
                None if q is None else q.values[at],
                None if copied is None or not pairs else copied.values[at] / pairs,
                own.implements[at],
                None if strict is None else strict.implements[at],
            )
        )
    reading = find_reading(atlas)
    if reading is not None:
        for at, each in enumerate(BEHAVIOURS):
            value, level = reading.value[at], reading.chance[at]
            above = value > reading.limits[each.name]
            found.append(
                _function(each.name, READING, None, value, level, reading.q[at], None, above, reading.of(each.name))
            )
    return found


def _function(
    name: str,
    category: str,
    pairs: int | None,
    value: np.ndarray,
    chance: np.ndarray | None,
    q: np.ndarray | None,
    copying: np.ndarray | None,
    has: np.ndarray,
    beyond: np.ndarray | None,
) -> ModelFunction:
    """From arrays (layer, head); `copying` (layer)."""
    import numpy as np

    known, counts = np.nan_to_num(value), has if beyond is None else beyond
    layer, head = (int(place) for place in np.unravel_index((known + counts).argmax(), known.shape))
    there = bool(known.any())

    def at(array: np.ndarray | None) -> float | None:
        return None if array is None or not there or np.isnan(array[layer, head]) else float(array[layer, head])

    return ModelFunction(
        function=name,
        category=category,
        pairs=pairs,
        layer=layer if there else None,
        head=head if there else None,
        score=float(known[layer, head]),
        chance=at(chance),
        highest_chance=None if chance is None else float(np.nan_to_num(chance).max(initial=0.0)),
        q=at(q),
        copying=None if copying is None or not there else float(copying[layer]),
        depth=layer / max(len(value) - 1, 1) if there else None,
        heads=_places(has),
        beyond=None if beyond is None else _places(beyond),
    )


def _places(has: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple((int(layer), int(head)) for layer, head in zip(*has.nonzero(), strict=True))


def table_of_functions(models: dict[str, list[ModelFunction]]) -> pd.DataFrame:
    """A row per model and function.

    Args:
        models: what `functions_of` found, by the name of the model.

    Returns:
        model, function, category, pairs, strongest (name of the head), layer, depth, score, chance, highest_chance, q,
        copying, heads, beyond; the last two are numbers of heads, and what is not known is missing.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for model, functions in models.items():
        for each in functions:
            row = {"model": model, "strongest": each.name} | asdict(each)
            rows.append(row | {"heads": len(each.heads), "beyond": None if each.beyond is None else len(each.beyond)})
    columns = ["model", "function", "category", "pairs", "strongest", "layer", "depth", "score", "chance",
               "highest_chance", "q", "copying", "heads", "beyond"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["depth", "score", "chance", "highest_chance", "q", "copying"]
    whole = ["pairs", "layer", "heads", "beyond"]
    return table.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(whole, "Int64"))
