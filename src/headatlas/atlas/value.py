"""The result of a measurement as a value: labelled arrays, the pairs behind them, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas.checked_table import read_table
from headatlas.atlas.columns import Columns, columns_of_frame
from headatlas.atlas.evidence import EVIDENCE, Facts, check_evidence
from headatlas.atlas.made_later import MadeLater
from headatlas.atlas.statistics import benjamini_hochberg, wilson_interval
from headatlas.atlas.table import (
    CHANCE_VARIABLES,
    COPYING_VARIABLES,
    HITS_VARIABLES,
    NOT_APPLICABLE,
    Grid,
    check_side,
    grid_of_dataset,
    head_name,
    table_of_dataset,
)
from headatlas.errors import AtlasError, SettingsError, find_name
from headatlas.relations import find_relation
from headatlas.settings import MAX_Q, MIN_EXCESS, MIN_UNCOPIED, checked_rule, parse_threshold

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

    from headatlas.atlas.manifest import Manifest

COVERAGE_COLUMNS = (
    "relation", "category", "k", "in_file", "pairs", "duplicates", "source_dropped", "target_dropped", "measurable",
)  # fmt: skip

BY_COPYING = ("beyond", "not beyond", "inseparable", "itself")
"""What copying says about a score: it is beyond copying, or not; the relation cannot be told from copying in this
layer; the relation is copying itself."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Scores of every head for every measured relation; a value that does not change, hashed by identity.

    Args:
        data: dimensions (relation, layer, head). Variables `score` and `suppression` (share of a relation's pairs,
            0 to 1; `suppression` is absent when it was not measured) and, where whole numbers are known, `hits` and
            `suppression_hits`. Coordinates along relation: `category`, `k`, `pairs` (0 where unknown); along layer:
            `validity`, how far its heads' circuits are exact. Layers without heads ("not applicable") have NaN shares.
        manifest: what was measured, how, and with which versions.
        pair_hits: a row per hit (relation, source, target, source_id, target_id, layer, head, side) with side
            `promoted` or `suppressed`; None for imported scores.
        folder: where it was loaded from; evidence is read from there when it is asked for.
        pairs: a row per measured pair (relation, source, target, source_id, target_id); None for imported scores, and
            for atlases of versions that did not keep them.
    """

    # Read from a folder as plain arrays: xarray and pandas take longer to import than most commands to answer.
    data: MadeLater[xr.Dataset, Grid] = MadeLater(Grid, Grid.dataset)  # noqa: RUF009
    manifest: Manifest  # type: ignore[misc]  # the field before has no default, though it has a descriptor
    pair_hits: MadeLater[pd.DataFrame | None, Columns] = MadeLater(Columns, Columns.frame, None)  # noqa: RUF009
    folder: Path | None = None
    pairs: MadeLater[pd.DataFrame | None, Columns] = MadeLater(Columns, Columns.frame, None)  # noqa: RUF009
    _evidence: dict[str, pd.DataFrame | Columns] = field(default_factory=dict, repr=False)
    _q_values: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def grid(self) -> Grid:
        """The plain arrays of `data`, which need no xarray."""
        given = self.__dict__["data"]
        return given if isinstance(given, Grid) else grid_of_dataset(given)

    @cached_property
    def hits_columns(self) -> Columns | None:
        """`pair_hits` as plain arrays, which need no pandas."""
        given = self.__dict__["pair_hits"]
        return given if given is None or isinstance(given, Columns) else columns_of_frame(given)

    # What it is

    @property
    def name(self) -> str:
        """The model's name, for titles."""
        return self.manifest.model.name

    @property
    def measure(self) -> str:
        return self.manifest.measure

    @property
    def label(self) -> str:
        """The profile, the rule unless it is `plain`, and each setting that differs from the profile."""
        return self.manifest.label

    @property
    def threshold(self) -> str:
        return self.manifest.settings.threshold

    @property
    def rule(self) -> str:
        """How its heads are classified unless one says otherwise: `plain` or `calibrated`."""
        return self.manifest.settings.rule

    @property
    def relations(self) -> list[str]:
        return list(self.grid.relations)

    def check_relation(self, name: str) -> str:
        """The relation of this name, whatever its case; refuses one that has no scores here.

        Raises:
            AtlasError: the relation was not measurable on this model.
            SettingsError: no such relation.
        """
        try:
            return find_relation("relation", name, self.relations)
        except SettingsError as error:
            known = [item.relation for item in self.manifest.relations.items if item.relation not in self.relations]
            try:
                lost = find_relation("relation", name, known)
            except SettingsError:
                raise error from None  # those without scores are not offered
            raise AtlasError(
                f"{self.name}: the relation {lost!r} was not measurable on this model; it has no scores."
            ) from None

    @property
    def n_layers(self) -> int:
        return self.grid.shape[1]

    @property
    def n_heads(self) -> int:
        return self.grid.shape[2]

    @property
    def validity(self) -> list[str]:
        """How far the heads' circuits are exact, by layer; `not known` for imported scores."""
        return list(self.grid.validity)

    @property
    def has_heads(self) -> np.ndarray:
        """The layers that have attention heads; those of linear attention, say, have none: Bool[ndarray, "layer"]."""
        import numpy as np

        return np.array([kind != NOT_APPLICABLE for kind in self.grid.validity], dtype=bool)

    @property
    def heads_per_group(self) -> int | None:
        """Neighbouring heads that read the same key-value head; None if it is not known, or if layers differ."""
        n_kv_heads = self.manifest.model.n_kv_heads
        return self.n_heads // n_kv_heads if n_kv_heads and self.n_heads % n_kv_heads == 0 else None

    def group_of(self, head: int) -> tuple[int, range] | None:
        """The key-value head that a head reads, and all heads of its layer that read it; None as `heads_per_group`."""
        size = self.heads_per_group
        return None if size is None else (head // size, range(head // size * size, (head // size + 1) * size))

    @property
    def scores(self) -> xr.DataArray:
        """Score, 0 to 1: Float[DataArray, "relation layer head"]."""
        return self.data["score"]

    @property
    def suppression(self) -> xr.DataArray:
        """Suppression, 0 to 1: Float[DataArray, "relation layer head"]. Raises `AtlasError` where unknown."""
        return self.share("suppression")

    def share(self, side: str) -> xr.DataArray:
        """`score` or `suppression` by name."""
        self._share(side)
        return self.data[side]

    def _share(self, side: str) -> np.ndarray:
        check_side(side)
        if side not in self.grid:
            raise AtlasError(
                f"{self.name}: these scores came without suppression; only the map of scores can be shown."
            )
        return self.grid[side]

    @property
    def has_suppression(self) -> bool:
        return "suppression" in self.grid

    @property
    def counts_known(self) -> bool:
        """Whether scores are whole numbers of hits; not so for imported ones."""
        return "hits" in self.grid

    # How far it could be chance

    def chance(self, side: str = "score") -> xr.DataArray | None:
        """Expected share of hits if the targets were paired anew, as `score`; None where it was not measured."""
        return self._chance_variable(side, 0)

    def chance_exact(self, side: str = "score") -> xr.DataArray | None:
        """Where `chance` is exact; elsewhere it is a mean over seeded re-pairings. None where it was not measured."""
        return self._chance_variable(side, 1)

    def p_values(self, side: str = "score") -> xr.DataArray | None:
        """Upper bound of the probability of as many hits under re-paired targets, 0 to 1; None if not measured."""
        return self._chance_variable(side, 2)

    def _chance_variable(self, side: str, which: int) -> xr.DataArray | None:
        check_side(side)
        return self.data.get(CHANCE_VARIABLES[side][which])

    def q_values(self, side: str = "score") -> xr.DataArray | None:
        """Benjamini-Hochberg over all heads and measured relations, as `p_values`; None if not measured.

        Computed once; the array is read-only.
        """
        return self._labelled(self._all_q_values(side))

    def _all_q_values(self, side: str) -> np.ndarray | None:
        check_side(side)
        p_values = self.grid.arrays.get(CHANCE_VARIABLES[side][2])
        if p_values is None:
            return None
        if side not in self._q_values:
            q_values, with_heads = p_values.copy(), self.has_heads
            q_values[:, with_heads] = benjamini_hochberg(p_values[:, with_heads])
            q_values.flags.writeable = False
            self._q_values[side] = q_values
        return self._q_values[side]

    def beyond_chance(self, side: str = "score") -> np.ndarray:
        """Which shares are significant (q < MAX_Q) and exceed chance by more than MIN_EXCESS, as `above`.

        Raises:
            AtlasError: chance was not measured.
        """
        check_side(side)
        chance, q_values = self.grid.arrays.get(CHANCE_VARIABLES[side][0]), self._all_q_values(side)
        if chance is None or q_values is None:
            raise AtlasError(f"{self.name}: the rule calibrated needs chance levels, which this atlas lacks.")
        return (q_values < MAX_Q) & (self._share(side) - chance > MIN_EXCESS)

    def _labelled(self, values: np.ndarray | None) -> xr.DataArray | None:
        """Plain arrays (relation, layer, head) with the labels of the scores."""
        return None if values is None else self.data["score"].copy(data=values).rename(None)

    # What copying explains

    @property
    def has_copying(self) -> bool:
        """Whether it was measured which pairs copying hits."""
        return "copied" in self.grid

    @property
    def copied(self) -> xr.DataArray | None:
        """Pairs that copying hits, in each layer: Int[DataArray, "relation layer"]; None if not measured.

        Copying is a head's output that is the source's embedding, its row of the unembedding, or the input that the
        layer's heads read.
        """
        return self.data.get("copied")

    @property
    def uncopied_pairs(self) -> xr.DataArray | None:
        """Pairs that copying misses: Int[DataArray, "relation layer"]; None if not measured."""
        return self.data["pairs"] - self.data["copied"] if self.has_copying else None

    @property
    def is_copying(self) -> np.ndarray:
        """The relations that map each word to itself; the control does not apply to them: Bool[ndarray, "relation"]."""
        import numpy as np

        items = {item.relation: item for item in self.manifest.relations.items}
        return np.array([bool(items[name].is_copying) for name in self.relations])

    @property
    def separable(self) -> np.ndarray:
        """Which relations can be told from copying, in each layer: Bool[ndarray, "relation layer"].

        At least MIN_UNCOPIED pairs are missed by copying, and the relation is not copying itself.

        Raises:
            AtlasError: copying was not measured.
        """
        pairs = self._uncopied_pairs()
        if pairs is None:
            raise AtlasError(f"{self.name}: the rule calibrated needs the copying control, which this atlas lacks.")
        return (pairs >= MIN_UNCOPIED) & ~self.is_copying[:, None] & self.has_heads

    def _uncopied_pairs(self) -> np.ndarray | None:
        return self.grid.pairs[:, None] - self.grid["copied"] if self.has_copying else None

    def uncopied(self, side: str = "score") -> xr.DataArray | None:
        """Share of hits among the pairs that copying misses; NaN where the relation is not separable from copying.

        None if copying was not measured.
        """
        return self._labelled(self._uncopied(side))

    def _uncopied(self, side: str) -> np.ndarray | None:
        import numpy as np

        check_side(side)
        pairs = self._uncopied_pairs()
        if pairs is None:
            return None
        # Where copying misses no pair there is no share.
        shares = self.grid[COPYING_VARIABLES[side][0]] / np.maximum(pairs, 1)[:, :, None]
        return np.where(self.separable[:, :, None], shares, np.nan)

    def uncopied_interval(self, side: str = "score") -> tuple[xr.DataArray, xr.DataArray] | None:
        """Wilson's 95 % interval of `uncopied`, (low, high)."""
        low, high = (self._labelled(end) for end in self._uncopied_interval(side) or (None, None))
        return None if low is None or high is None else (low, high)

    def _uncopied_interval(self, side: str) -> tuple[np.ndarray, np.ndarray] | None:
        import numpy as np

        share, pairs = self._uncopied(side), self._uncopied_pairs()
        if share is None or pairs is None:
            return None
        return wilson_interval(share, np.maximum(pairs, 1)[:, :, None])

    def uncopied_chance(self, side: str = "score") -> xr.DataArray | None:
        """Expected `uncopied` if the targets of these pairs were paired anew; NaN if not known exactly."""
        check_side(side)
        return self.data.get(COPYING_VARIABLES[side][1])

    def uncopied_q_values(self, side: str = "score") -> xr.DataArray | None:
        """Benjamini-Hochberg over all heads and separable relations; NaN elsewhere. None if not measured.

        Computed once; the array is read-only.
        """
        return self._labelled(self._all_uncopied_q_values(side))

    def _all_uncopied_q_values(self, side: str) -> np.ndarray | None:
        import numpy as np

        check_side(side)
        if not self.has_copying:
            return None
        known = f"uncopied {side}"
        if known not in self._q_values:
            p_values, separable = self.grid[COPYING_VARIABLES[side][2]], self.separable
            q_values = np.where(separable[:, :, None], p_values, np.nan)
            if separable.any():
                q_values[separable] = benjamini_hochberg(p_values[separable])
            q_values.flags.writeable = False
            self._q_values[known] = q_values
        return self._q_values[known]

    def beyond_copying(self, threshold: str | float | None = None, side: str = "score") -> np.ndarray:
        """Which scores copying does not explain, as `above`.

        On the pairs that copying misses, the share is above the threshold, significant (q < MAX_Q), and exceeds its
        chance level by more than MIN_EXCESS. The scores of a relation that is copying itself are all beyond copying.

        Raises:
            AtlasError: copying was not measured.
        """
        separable = self.separable
        share, pairs, q_values = self._uncopied(side), self._uncopied_pairs(), self._all_uncopied_q_values(side)
        assert share is not None and pairs is not None and q_values is not None
        hits, chance, _ = (self.grid[name] for name in COPYING_VARIABLES[side])
        limit = self.threshold if threshold is None else threshold
        above = hits > _most_below(limit, pairs)[:, :, None]
        beyond = (q_values < MAX_Q) & (share - chance > MIN_EXCESS)
        return (above & beyond & separable[:, :, None]) | self.is_copying[:, None, None]

    def by_copying(self, threshold: str | float | None = None, side: str = "score") -> np.ndarray | None:
        """What copying says about each score, one of BY_COPYING: Object[ndarray, "relation layer head"].

        None if copying was not measured.
        """
        import numpy as np

        if not self.has_copying:
            return None
        beyond, not_beyond, inseparable, itself = BY_COPYING
        found = np.where(self.beyond_copying(threshold, side), beyond, not_beyond).astype(object)
        found[~self.separable] = inseparable
        found[self.is_copying] = itself
        return found

    def interval(self, side: str = "score") -> tuple[xr.DataArray, xr.DataArray] | None:
        """Wilson's 95 % interval of each share, (low, high); None where the number of pairs is not known."""
        low, high = (self._labelled(end) for end in self._interval(side) or (None, None))
        return None if low is None or high is None else (low, high)

    def _interval(self, side: str) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.counts_known:
            return None
        return wilson_interval(self._share(side), self.grid.pairs[:, None, None])

    def statistics(self, side: str = "score", threshold: str | float | None = None) -> dict[str, np.ndarray | None]:
        """What is known about each share, as plain arrays (relation, layer, head); None where it was not measured.

        By the names `low`, `high` (as `interval`), `chance`, `chance_exact`, `p`, `q`; and among the pairs that copying
        misses: `uncopied`, `uncopied_hits`, `uncopied_pairs`, `uncopied_low`, `uncopied_high`, `uncopied_chance`,
        `uncopied_q`, and `copying` (as `by_copying`).

        Args:
            threshold: of `copying`; default: the atlas's own.
        """
        import numpy as np

        check_side(side)
        of, pairs = self.grid.arrays.get, self._uncopied_pairs()
        low, high = self._interval(side) or (None, None)
        uncopied_low, uncopied_high = self._uncopied_interval(side) or (None, None)
        chance, exact, p_values = (of(name) for name in CHANCE_VARIABLES[side])
        uncopied_hits, uncopied_chance, _ = (of(name) for name in COPYING_VARIABLES[side])
        return {
            "low": low,
            "high": high,
            "chance": chance,
            "chance_exact": exact,
            "p": p_values,
            "q": self._all_q_values(side),
            "uncopied": self._uncopied(side),
            "uncopied_hits": uncopied_hits,
            "uncopied_pairs": None if pairs is None else np.broadcast_to(pairs[:, :, None], self.grid.shape),
            "uncopied_low": uncopied_low,
            "uncopied_high": uncopied_high,
            "uncopied_chance": uncopied_chance,
            "uncopied_q": self._all_uncopied_q_values(side),
            "copying": self.by_copying(threshold, side),
        }

    # Evidence from other measurements

    def evidence(self, name: str) -> pd.DataFrame | None:
        """A table of EVIDENCE, or None where it was not gathered.

        Raises:
            AtlasError: its file is not the one that was written with the manifest, or holds what no such table does.
        """
        table = self._evidence_table(name)
        if isinstance(table, Columns):
            table = self._evidence[name] = table.frame()
        return table

    def evidence_columns(self, name: str) -> Columns | None:
        """As `evidence`, as plain arrays, which need no pandas."""
        table = self._evidence_table(name)
        return table if table is None or isinstance(table, Columns) else columns_of_frame(table)

    def _evidence_table(self, name: str) -> pd.DataFrame | Columns | None:
        check_evidence(name)
        if name not in self.manifest.evidence.names:
            return None
        if name not in self._evidence:
            remedy = f"Run `headatlas {EVIDENCE[name]}` again."
            self._evidence[name] = read_table(Path(self.folder or "."), name, self.manifest, remedy)
        return self._evidence[name]

    def with_evidence(self, tables: Mapping[str, tuple[pd.DataFrame, Facts]]) -> Atlas:
        """The same atlas with tables of EVIDENCE added or replaced; see `headatlas.atlas.folder.save_evidence`.

        Args:
            tables: by name, each with the facts about it for the manifest.
        """
        for name in tables:
            check_evidence(name)
        manifest = self.manifest.with_evidence({name: facts for name, (_, facts) in tables.items()})
        known = self._evidence | {name: table for name, (table, _) in tables.items()}
        return replace(self, manifest=manifest, _evidence=known)

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """A row per relation, measured or not: pairs in the file, kept, why the others dropped, measurable or not.

        Counts are <NA> for imported scores, whose pairs are not known.
        """
        import pandas as pd

        rows = [
            {column: getattr(item, column) for column in COVERAGE_COLUMNS} for item in self.manifest.relations.items
        ]
        counts = [column for column in COVERAGE_COLUMNS[2:-1]]
        return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS)).astype(dict.fromkeys(counts, "Int64"))

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per relation, layer and head, with the columns of `scores.parquet`; <NA> where a count is unknown."""
        return table_of_dataset(self.data)

    def above(self, threshold: str | float | None = None, side: str = "score") -> np.ndarray:
        """Which scores are strictly above the threshold: Bool[ndarray, "relation layer head"].

        Exact where hits are known: 3 of 20 is not above 0.15.
        """

        threshold = self.threshold if threshold is None else threshold
        shares = self._share(side)
        if not self.counts_known:
            return shares > float(parse_threshold(threshold))
        return self.grid[HITS_VARIABLES[side]] > _most_below(threshold, self.grid.pairs)[:, None, None]

    def heads(
        self,
        category: str | None = None,
        relation: str | None = None,
        min_score: str | float | None = None,
        side: str = "score",
        rule: str | None = None,
    ) -> pd.DataFrame:
        """The heads whose score is strictly above `min_score` (default: the threshold), strongest first.

        With the rule `calibrated` (default: the atlas's own) only those whose score is also beyond chance and copying.

        Returns a row per head and relation: name (`L23H4`), layer, head, relation, category, score, hits, pairs,
        chance, q, low and high (Wilson's 95 % interval), uncopied and uncopied_q (among the pairs that copying misses),
        copying (one of BY_COPYING), validity; None where not measured.

        >>> atlas.heads("Knowledge", min_score=0.9)[["name", "relation", "hits", "pairs"]]
           name            relation  hits  pairs
        0  L1H2  country_to_capital    40     40
        """
        import pandas as pd

        columns = self._strong(category, relation, min_score, side, rule)
        return pd.DataFrame({name: _for_pandas(name, values) for name, values in columns.items()})

    def head_rows(
        self,
        category: str | None = None,
        relation: str | None = None,
        min_score: str | float | None = None,
        side: str = "score",
        rule: str | None = None,
    ) -> list[dict[str, Any]]:
        """The rows of `heads` as JSON types, None where a value is unknown; needs no pandas."""
        columns = self._strong(category, relation, min_score, side, rule)
        lists = [values.tolist() for values in columns.values()]
        return [
            {name: None if value != value else value for name, value in zip(columns, row, strict=True)}
            for row in zip(*lists, strict=True)
        ]

    def _strong(
        self, category: str | None, relation: str | None, min_score: str | float | None, side: str, rule: str | None
    ) -> dict[str, np.ndarray]:
        """The columns of `heads`; those of what was not measured are of None."""
        import numpy as np

        items, grid = self.manifest.relations.items, self.grid
        if relation is not None:
            relation = find_relation("relation", relation, [item.relation for item in items])
        if category is not None:
            category = find_name("category", category, sorted({item.category for item in items}))
        chosen = self.above(min_score, side)
        if (self.rule if rule is None else checked_rule(rule)) == "calibrated":
            chosen = chosen & self.beyond_chance(side) & self.beyond_copying(min_score, side)
        asked = [
            category in (None, of) and relation in (None, name)
            for name, of in zip(grid.relations, grid.categories, strict=True)
        ]
        places = np.argwhere(chosen & np.array(asked, dtype=bool)[:, None, None])
        names, pairs = np.array(grid.relations, dtype=object), grid.pairs
        at = tuple(places.T)
        # The strongest first; of equal scores those of more pairs, then by place and name.
        by_name = np.argsort(np.argsort(names))[at[0]]
        order = np.lexsort((by_name, at[2], at[1], -pairs[at[0]], -self._share(side)[at]))
        at = tuple(places[order].T)
        of_relation, layer, head = at
        known_pairs = np.array([n or None for n in pairs.tolist()], dtype=object)
        known = self.statistics(side, min_score)
        parts = {"score": self._share(side), "hits": grid.arrays.get(HITS_VARIABLES[side])}
        parts["pairs"] = np.broadcast_to(known_pairs[:, None, None], grid.shape)
        parts |= {name: known[name] for name in ("chance", "q", "low", "high", "uncopied", "uncopied_q", "copying")}
        nothing = np.full(len(layer), None)
        return {
            "name": np.array([head_name(*place) for place in zip(layer.tolist(), head.tolist(), strict=True)], object),
            "layer": layer,
            "head": head,
            "relation": names[of_relation],
            "category": np.array(grid.categories, dtype=object)[of_relation],
            **{name: nothing if values is None else values[at] for name, values in parts.items()},
            "validity": np.array(grid.validity, dtype=object)[layer],
        }

    def __repr__(self) -> str:
        return (
            f"<Atlas of {self.name}: {len(self.relations)} relations, {self.n_layers} layers x {self.n_heads} heads, "
            f"{self.measure}, {self.label}>"
        )


def _for_pandas(name: str, values: np.ndarray) -> Any:
    """A column of `Atlas.heads`: counts are `Int64`, in which one can be missing."""
    import pandas as pd

    return pd.array(values.tolist(), dtype="Int64") if name in ("hits", "pairs") else values


def _most_below(threshold: str | float, pairs: np.ndarray) -> np.ndarray:
    """The most hits of so many pairs that are not above the threshold, as `pairs`."""
    import numpy as np

    limit = parse_threshold(threshold)
    # Python's whole numbers: no overflow, however many digits the threshold has.
    most = [limit.numerator * int(n) // limit.denominator for n in pairs.ravel()]
    return np.asarray(most).reshape(pairs.shape)
