"""Which heads feed which: predicted induction heads, and the edges between heads that are beyond random pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.atlas import head_name
from headatlas.errors import AtlasError
from headatlas.settings import MAX_Q

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas

KINDS = ("key", "query", "value")
"""What of a later head reads what an earlier one has written."""

LEAST_STRENGTH = {"key": 0.5, "query": 0.5, "value": 0.1}
"""Strength above which an edge is named: nats of the score at induction places; for values, a ratio of norms."""

LEAST_SHARE = 0.1
"""Predicted share of attention on induction places above which a head is a predicted induction head."""

HIGHEST = 6
"""Heads that prediction and measurement are compared by."""

TITLES = {"previous": "previous token", "induction": "induction"}
"""What a sender looks at and writes about."""


@dataclass(frozen=True)
class Edge:
    """A head that feeds a later one.

    Args:
        sender, receiver: layer and head.
        kind: one of KINDS.
        about: what the sender writes about, a name in TITLES.
        strength, q: its strength, and its q-value against random pairs of the same layers.
    """

    sender: tuple[int, int]
    receiver: tuple[int, int]
    kind: str
    about: str
    strength: float
    q: float

    def as_dict(self) -> dict[str, Any]:
        """JSON types, with the names of the heads."""
        return vars(self) | {"sender": head_name(*self.sender), "receiver": head_name(*self.receiver)}


@dataclass(frozen=True)
class Composition:
    """Composition of the heads of an atlas; arrays (layer, head), NaN where nothing was measured.

    Args:
        previous: predicted share of attention on the previous token.
        share, q: predicted share on induction places, and its q-value.
        measured: the running model's own share on induction places.
        edges: that are named, the strongest of each kind first.
        n_edges: that were tried.
    """

    previous: np.ndarray
    share: np.ndarray
    q: np.ndarray
    measured: np.ndarray
    edges: tuple[Edge, ...]
    n_edges: int

    @property
    def induction(self) -> np.ndarray:
        """The predicted induction heads: Bool[ndarray, "layer head"]."""
        return (self.share > LEAST_SHARE) & (self.q < MAX_Q)

    def strongest(self) -> list[tuple[int, int, float]]:
        """The predicted induction heads, the strongest first: (layer, head, share)."""
        import numpy as np

        places = [(int(layer), int(head)) for layer, head in np.argwhere(self.induction)]
        return sorted(((*place, float(self.share[place])) for place in places), key=lambda each: (-each[2], each))

    def highest(self, values: np.ndarray) -> list[tuple[int, int]]:
        """The HIGHEST heads by `share` or `measured`, the highest first."""
        import numpy as np

        order = np.argsort(-np.nan_to_num(values, nan=-1.0), axis=None, kind="stable")[:HIGHEST]
        return [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, values.shape), strict=True)]

    @property
    def n_highest_in_both(self) -> int:
        """How many of the HIGHEST predicted heads are among the HIGHEST measured ones."""
        return len({*self.highest(self.share)} & {*self.highest(self.measured)})

    @property
    def agreement(self) -> float:
        """Pearson's correlation of predicted with measured shares, over heads; NaN if one of both is constant."""
        import numpy as np

        known = np.isfinite(self.share) & np.isfinite(self.measured)
        one, other = self.share[known], self.measured[known]
        if min(one.std(), other.std()) == 0:
            return float("nan")
        return float(np.corrcoef(one, other)[0, 1])

    def into(self, layer: int, head: int) -> list[Edge]:
        """The edges into a head, the strongest of each kind first."""
        return [each for each in self.edges if each.receiver == (layer, head)]

    def out_of(self, layer: int, head: int) -> list[Edge]:
        """The edges out of a head, the strongest of each kind first."""
        return [each for each in self.edges if each.sender == (layer, head)]

    def sentence(self, layer: int, head: int, most: int = 3) -> str:
        """What feeds a head and what it feeds; says so if nothing is named.

        Args:
            most: heads that are named on each side.
        """
        through: dict[str, list[Edge]] = {}
        for each in self.into(layer, head):
            through.setdefault(each.kind, []).append(each)
        parts = []
        for kind, edges in through.items():
            names = [f"{head_name(*each.sender)} ({TITLES[each.about]})" for each in edges]
            plural = {"key": "keys", "query": "queries", "value": "values"}[kind]
            parts.append(f"{_and(names, most)} through its {plural}")
        sentences = [f"Fed by {'; '.join(parts)}."] if parts else []
        fed: dict[tuple[int, int], None] = dict.fromkeys(each.receiver for each in self.out_of(layer, head))
        if fed:
            sentences.append(f"Feeds {_and([head_name(*each) for each in fed], most)}.")
        return " ".join(sentences) or "No edge to or from another head is beyond random pairs."


def _and(names: list[str], most: int) -> str:
    shown = names[:most]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def measured_composition(atlas: Atlas) -> Composition:
    """As `find_composition`, where there has to be one.

    Raises:
        AtlasError: the composition of the heads was not measured.
    """
    found = find_composition(atlas)
    if found is None:
        raise AtlasError(
            f"{atlas.name}: expected which heads feed which, found nothing. Measure it with `headatlas composition`."
        )
    return found


def find_composition(atlas: Atlas) -> Composition | None:
    """The composition of the heads of an atlas; None if it was not measured."""
    import numpy as np

    heads: Any = atlas.evidence("composition")
    table: Any = atlas.evidence("edges")
    facts = atlas.manifest.evidence.edges
    if heads is None or table is None or facts is None:
        return None
    columns = {"previous": "previous", "share": "share", "q": "q_value", "measured": "measured"}
    arrays = {name: np.full((atlas.n_layers, atlas.n_heads), np.nan) for name in columns}
    for name, column in columns.items():
        arrays[name][heads["layer"], heads["head"]] = heads[column]
    return Composition(**arrays, edges=named_edges(table, facts.least_strength), n_edges=len(table))


def named_edges(table: Any, least_strength: Mapping[str, float]) -> tuple[Edge, ...]:
    """The edges of the table `edges` that are strong enough and beyond random pairs, the strongest of each kind first.

    Args:
        least_strength: by kind; a strength has to be above it.
    """
    edges = []
    for kind in KINDS:
        rows = table[(table["kind"] == kind) & (table["q_value"] < MAX_Q)]
        rows = rows[rows["strength"] > least_strength[kind]].sort_values("strength", ascending=False)
        edges += [
            Edge(
                sender=(int(row.sender_layer), int(row.sender_head)),
                receiver=(int(row.layer), int(row.head)),
                kind=kind,
                about=str(row.about),
                strength=float(row.strength),
                q=float(row.q_value),
            )
            for row in rows.itertuples()
        ]
    return tuple(edges)
