"""Scores as plain and as labelled arrays, and as a table with a row per relation, layer and head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.atlas.columns import Columns, columns_of_frame
from headatlas.errors import AtlasError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

NOT_APPLICABLE, NOT_KNOWN = "not applicable", "not known"
"""Validity of a layer without attention heads, and of imported scores; else one of `architectures.VALIDITIES`."""


SIDES = ("score", "suppression")
"""Targets among the highest logits, or among the lowest."""

HITS_VARIABLES = {"score": "hits", "suppression": "suppression_hits"}
"""Of each side: the whole number of hits, if it is known."""

HITS_SIDES = {"score": "promoted", "suppression": "suppressed"}
"""Of each side: what its hits are called in the table of hits."""

CHANCE_VARIABLES = {
    "score": ("chance", "chance_exact", "p_value"),
    "suppression": ("suppression_chance", "suppression_chance_exact", "suppression_p_value"),
}
"""Of each side: the expected share under re-paired targets, whether it is exact, and a bound of the p-value."""

COPYING_VARIABLES = {
    "score": ("uncopied_hits", "uncopied_chance", "uncopied_p_value"),
    "suppression": ("suppression_uncopied_hits", "suppression_uncopied_chance", "suppression_uncopied_p_value"),
}
"""Of each side: hits among the pairs that copying misses, and their chance level and p-value among these pairs. The
number of pairs that copying hits is `copied`, (relation, layer)."""


def check_side(side: str) -> None:
    """Raise `SettingsError` unless `side` is one of SIDES."""
    if side not in SIDES:
        raise SettingsError(f"side: expected one of {', '.join(SIDES)}, found {side!r}.")


@dataclass(frozen=True, eq=False)
class Grid:
    """Scores as plain arrays, without labels.

    Args:
        relations, categories: of each relation.
        k, pairs: Int[ndarray, "relation"]; 0 where unknown.
        validity: of each layer.
        arrays: the variables of `headatlas.atlas.Atlas.data` by name, (relation, layer, head); `copied` (relation,
            layer).
    """

    relations: tuple[str, ...]
    categories: tuple[str, ...]
    k: np.ndarray
    pairs: np.ndarray
    validity: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of relations, layers and heads."""
        n_relations, n_layers, n_heads = self.arrays["score"].shape
        return n_relations, n_layers, n_heads

    def dataset(self) -> xr.Dataset:
        """The same with labels."""
        import numpy as np
        import xarray as xr

        dims = ("relation", "layer", "head")
        _, n_layers, n_heads = self.shape
        return xr.Dataset(
            {name: (dims[: values.ndim], values) for name, values in self.arrays.items()},
            coords={
                "relation": np.asarray(self.relations, dtype=object),
                "layer": np.arange(n_layers),
                "head": np.arange(n_heads),
                "category": ("relation", np.asarray(self.categories, dtype=object)),
                "k": ("relation", self.k),
                "pairs": ("relation", self.pairs),
                "validity": ("layer", np.asarray(self.validity, dtype=object)),
            },
        )


def build_grid(
    relations: list[tuple[str, str, int, int]], variables: dict[str, np.ndarray], validity: list[str] | None = None
) -> Grid:
    """Plain arrays, shares included.

    Args:
        relations: (name, category, k, pairs) of each; k and pairs are 0 where unknown.
        variables: `hits` and `suppression_hits`, from which the shares are computed, or `score` and, if it was
            measured, `suppression`; any of CHANCE_VARIABLES and COPYING_VARIABLES; each (relation, layer, head);
            `copied` (relation, layer).
        validity: of each layer; default: not known.
    """
    import numpy as np

    names, categories, k, pairs = zip(*relations, strict=True) if relations else ((), (), (), ())
    if "hits" in variables:
        n_pairs = np.asarray(pairs, dtype=np.float64)[:, None, None]
        variables = variables | {
            "score": variables["hits"] / n_pairs,
            "suppression": variables["suppression_hits"] / n_pairs,
        }
    _, n_layers, _ = next(iter(variables.values())).shape
    kinds = [NOT_KNOWN] * n_layers if validity is None else validity
    without = np.asarray([kind == NOT_APPLICABLE for kind in kinds])[None, :, None]
    variables = {
        name: np.where(without, np.nan, values) if values.dtype.kind == "f" else values
        for name, values in variables.items()
    }
    k, pairs = (np.asarray(numbers, dtype=np.int64) for numbers in (k, pairs))
    return Grid(names, categories, k, pairs, tuple(kinds), variables)


def build_dataset(
    relations: list[tuple[str, str, int, int]], variables: dict[str, np.ndarray], validity: list[str] | None = None
) -> xr.Dataset:
    """Labelled arrays from plain ones, as `build_grid`."""
    return build_grid(relations, variables, validity).dataset()


def grid_of_dataset(data: xr.Dataset) -> Grid:
    """Labelled arrays without their labels."""
    names, categories, kinds = (
        tuple(str(text) for text in data[name].values) for name in ("relation", "category", "validity")
    )
    arrays = {str(name): values.values for name, values in data.items()}
    return Grid(names, categories, data["k"].values, data["pairs"].values, kinds, arrays)


def dataset_from_table(table: pd.DataFrame) -> xr.Dataset:
    """The labelled arrays of a complete table of scores, as `grid_from_columns`."""
    return grid_from_columns(columns_of_frame(table)).dataset()


def grid_from_columns(table: Columns) -> Grid:
    """The arrays of a complete table of scores, whatever the order of its rows.

    Raises:
        AtlasError: a relation lacks a layer or head, or has one twice.
    """
    import numpy as np

    codes, names = table.texts("relation").factorised
    layers, heads = (table.numbers(name).astype("int64") for name in ("layer", "head"))
    n_layers, n_heads = int(layers.max()) + 1, int(heads.max()) + 1
    index = (codes * n_layers + layers) * n_heads + heads
    if (index[1:] < index[:-1]).any():
        order = index.argsort(kind="stable")
        table, index = table.take(order), index[order]
    expected = len(names) * n_layers * n_heads
    if len(index) != expected or (index != np.arange(expected)).any():
        raise AtlasError(
            f"scores: expected one row for each of {len(names)} relations x {n_layers} layers x {n_heads} heads "
            f"({expected} rows), found {len(index)} rows, {expected - len(np.unique(index))} places without one."
        )
    first = table.take(np.arange(0, expected, n_layers * n_heads))
    counts = []
    for name in ("k", "pairs"):
        numbers = first.numbers(name) if name in table else np.zeros(len(names))
        counts.append(np.nan_to_num(numbers).astype("int64").tolist())
    relations = list(zip(names, first.texts("category").to_list(), *counts, strict=True))
    validity, without = None, np.zeros(expected, dtype=bool)
    if "validity" in table:
        validity = table.take(np.arange(0, n_layers * n_heads, n_heads)).texts("validity").to_list()
        without = table.texts("validity").equal(NOT_APPLICABLE)
    shape = (len(names), n_layers, n_heads)
    # Of layers without heads nothing is known, which makes nothing incomplete.
    complete = {
        name: np.where(without, 0, table.numbers(name))
        for name in (*SIDES, *HITS_VARIABLES.values(), *_copying_counts())
        if name in table and table.known(name)[~without].all()
    }
    whole = [name for name in HITS_VARIABLES.values() if name in complete]
    chosen = whole if len(whole) == 2 else [name for name in SIDES if name in complete]
    dtype = "int32" if len(whole) == 2 else "float64"
    arrays = {name: complete[name].astype(dtype).reshape(shape) for name in chosen}
    arrays |= {name: table.numbers(name).reshape(shape) for name in _all_chance_variables() if name in table}
    if all(name in complete for name in _copying_counts()):
        arrays |= {name: complete[name].astype("int32").reshape(shape) for name in _copying_counts()}
        arrays["copied"] = arrays["copied"][:, :, 0]
    return build_grid(relations, arrays, validity)


def table_of_dataset(data: xr.Dataset) -> pd.DataFrame:
    """A row per relation, layer and head, with the columns of `scores.parquet`; <NA> if a count is unknown."""
    import numpy as np
    import pandas as pd

    n_relations, n_layers, n_heads = data["score"].shape
    per_relation, grid = n_layers * n_heads, data["score"].size
    columns: dict[str, Any] = {
        "relation": data["relation"].values.repeat(per_relation),
        "category": data["category"].values.repeat(per_relation),
        "layer": np.tile(np.arange(n_layers).repeat(n_heads), n_relations),
        "head": np.tile(np.arange(n_heads), n_relations * n_layers),
    }
    for name in ("k", "pairs"):
        values = data[name].values.repeat(per_relation)
        columns[name] = pd.array([value or None for value in values.tolist()], dtype="Int64")
    for name in HITS_VARIABLES.values():
        known = name in data
        columns[name] = pd.array(data[name].values.ravel() if known else [None] * grid, dtype="Int64")
    for name in SIDES:
        columns[name] = data[name].values.ravel() if name in data else [None] * grid
    for name in _all_chance_variables():
        if name in data:
            columns[name] = data[name].values.ravel()
    if "copied" in data:
        columns["copied"] = pd.array(data["copied"].values.ravel().repeat(n_heads), dtype="Int64")
        for name in _copying_counts()[1:]:
            columns[name] = pd.array(data[name].values.ravel(), dtype="Int64")
    columns["validity"] = np.tile(data["validity"].values.repeat(n_heads), n_relations)
    table = pd.DataFrame(columns).astype({"suppression": "float64"})
    counts = [name for name in (*HITS_VARIABLES.values(), *_copying_counts()) if name in table]
    table.loc[table["validity"] == NOT_APPLICABLE, counts] = pd.NA
    return table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON types; None where a value is unknown."""
    import pandas as pd

    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _all_chance_variables() -> list[str]:
    """Of one number for each relation, layer and head that is no count."""
    levels = [name for names in COPYING_VARIABLES.values() for name in names[1:]]
    return [name for names in CHANCE_VARIABLES.values() for name in names] + levels


def _copying_counts() -> list[str]:
    return ["copied", *(names[0] for names in COPYING_VARIABLES.values())]


def head_name(layer: int, head: int) -> str:
    """A head's name, both counted from 0: `L23H4`."""
    return f"L{layer}H{head}"
