"""Which heads feed which: predicted induction heads, and the edges between heads that are beyond random pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.atlas import head_name
from headatlas.errors import AtlasError
from headatlas.settings import MAX_Q

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas
    from headatlas.atlas.columns import Columns

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
class Removed:
    """What the running model does if the later head does not read what the sender writes.

    Args:
        share: of the later head's attention on induction places, 0 to 1.
        share_change, share_low, share_high: its change without the edge, and the 95 % interval.
        random_share: the largest change, without sign, if a random edge of the same layers is removed instead; None
            without such edges.
        copying_change, random_copying: the same for the probability of the token that follows an earlier copy.
    """

    share: float
    share_change: float
    share_low: float
    share_high: float
    random_share: float | None
    copying_change: float
    random_copying: float | None


@dataclass(frozen=True)
class Edge:
    """A head that feeds a later one.

    Args:
        sender, receiver: layer and head.
        kind: one of KINDS.
        about: what the sender writes about, a name in TITLES.
        strength, chance, q: its strength, the mean strength of random pairs of the same layers, and the q-value.
        removed: what the running model does without it; None if it was not removed.
    """

    sender: tuple[int, int]
    receiver: tuple[int, int]
    kind: str
    about: str
    strength: float
    chance: float
    q: float
    removed: Removed | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON types, with the names of the heads."""
        names = {"sender": head_name(*self.sender), "receiver": head_name(*self.receiver)}
        return vars(self) | names | {"removed": self.removed and vars(self.removed)}


@dataclass(frozen=True)
class Composition:
    """Composition of the heads of an atlas; arrays (layer, head), NaN where nothing was measured.

    Args:
        previous: predicted share of attention on the previous token.
        share, chance, q: predicted share on induction places, the same with random senders, and its q-value.
        measured: the running model's own share on induction places.
        edges: that are named, the strongest of each kind first.
        n_edges: that were tried.
    """

    previous: np.ndarray
    share: np.ndarray
    chance: np.ndarray
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

    heads, table = atlas.evidence_columns("composition"), atlas.evidence_columns("edges")
    facts = atlas.manifest.evidence.edges
    if heads is None or table is None or facts is None or not len(heads):
        return None
    columns = {name: name for name in ("previous", "share", "chance", "measured")} | {"q": "q_value"}
    arrays = {name: np.full((atlas.n_layers, atlas.n_heads), np.nan) for name in columns}
    for name, column in columns.items():
        arrays[name][heads.numbers("layer"), heads.numbers("head")] = heads.numbers(column)
    edges = named_edges(table, LEAST_STRENGTH | dict(facts.least_strength), atlas.evidence_columns("paths"))
    return Composition(**arrays, edges=edges, n_edges=len(table))


def named_edges(table: Columns, least_strength: Mapping[str, float], paths: Columns | None = None) -> tuple[Edge, ...]:
    """The edges of the table `edges` that are strong enough and beyond random pairs, the strongest of each kind first.

    Args:
        least_strength: by kind; a strength has to be above it.
        paths: the table `paths`, if edges were removed.
    """
    edges, removed = [], {} if paths is None else _removed(paths)
    strength, q_values = table.numbers("strength"), table.numbers("q_value")
    for kind in KINDS:
        chosen = table.texts("kind").equal(kind) & (q_values < MAX_Q) & (strength > least_strength[kind])
        rows = table.take(chosen).rows()
        edges += [
            Edge(
                sender=(row["sender_layer"], row["sender_head"]),
                receiver=(row["layer"], row["head"]),
                kind=kind,
                about=row["about"],
                strength=row["strength"],
                chance=row["chance"],
                q=row["q_value"],
                removed=removed.get(_edge_of(row)),
            )
            for row in sorted(rows, key=lambda row: -row["strength"])
        ]
    return tuple(edges)


def _edge_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("sender_layer", "sender_head", "layer", "head", "kind"))


def _removed(paths: Columns) -> dict[tuple[Any, ...], Removed]:
    """What the removal of edges does, by sender, later head and kind."""
    own: dict[int, dict[str, Any]] = {}
    others: dict[int, list[dict[str, Any]]] = {}
    for row in paths.rows():
        row |= {name: float("nan") for name, value in row.items() if value is None}
        if row["draw"] == 0:
            own.setdefault(row["edge"], row)
        else:
            others.setdefault(row["edge"], []).append(row)
    found: dict[tuple[Any, ...], Removed] = {}
    for edge, row in sorted(own.items()):
        largest = {
            name: _largest(each[f"{name}_change"] for each in others[edge]) if edge in others else None
            for name in ("share", "copying")
        }
        found[_edge_of(row)] = Removed(
            share=row["share"],
            share_change=row["share_change"],
            share_low=row["share_change_low"],
            share_high=row["share_change_high"],
            random_share=largest["share"],
            copying_change=row["copying_change"],
            random_copying=largest["copying"],
        )
    return found


def _largest(changes: Iterable[float]) -> float:
    """The largest change without sign; NaN if none is known."""
    return max((abs(each) for each in changes if not math.isnan(each)), default=math.nan)
