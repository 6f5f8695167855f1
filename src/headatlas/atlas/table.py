"""Labelled arrays of scores, and the same as a table with a row per relation, layer and head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def build_dataset(
    relations: list[tuple[str, str, int, int]], variables: dict[str, np.ndarray], validity: list[str] | None = None
) -> xr.Dataset:
    """Labelled arrays from plain ones.

    Args:
        relations: (name, category, k, pairs) of each; k and pairs are 0 where unknown.
        variables: `hits` and `suppression_hits`, from which the shares are computed, or `score` and, if it was
            measured, `suppression`; any of CHANCE_VARIABLES and COPYING_VARIABLES; each (relation, layer, head);
            `copied` (relation, layer).
        validity: of each layer; default: not known.
    """
    import numpy as np
    import xarray as xr

    names, categories, k, pairs = zip(*relations, strict=True) if relations else ((), (), (), ())
    if "hits" in variables:
        n_pairs = np.asarray(pairs, dtype=np.float64)[:, None, None]
        variables = variables | {
            "score": variables["hits"] / n_pairs,
            "suppression": variables["suppression_hits"] / n_pairs,
        }
    dims = ("relation", "layer", "head")
    _, n_layers, n_heads = next(iter(variables.values())).shape
    kinds = [NOT_KNOWN] * n_layers if validity is None else validity
    without = np.asarray([kind == NOT_APPLICABLE for kind in kinds])[None, :, None]
    variables = {
        name: np.where(without, np.nan, values) if values.dtype.kind == "f" else values
        for name, values in variables.items()
    }
    return xr.Dataset(
        {name: (dims[: values.ndim], values) for name, values in variables.items()},
        coords={
            "relation": np.asarray(names, dtype=object),
            "layer": np.arange(n_layers),
            "head": np.arange(n_heads),
            "category": ("relation", np.asarray(categories, dtype=object)),
            "k": ("relation", np.asarray(k, dtype=np.int64)),
            "pairs": ("relation", np.asarray(pairs, dtype=np.int64)),
            "validity": ("layer", np.asarray(kinds, dtype=object)),
        },
    )


def dataset_from_table(table: pd.DataFrame) -> xr.Dataset:
    """The labelled arrays of a complete table of scores, whatever the order of its rows.

    Raises:
        AtlasError: a relation lacks a layer or head, or has one twice.
    """
    import numpy as np
    import pandas as pd

    codes, names = pd.factorize(table["relation"])
    layers, heads = (table[name].to_numpy(dtype="int64") for name in ("layer", "head"))
    n_layers, n_heads = int(layers.max()) + 1, int(heads.max()) + 1
    index = (codes * n_layers + layers) * n_heads + heads
    if (index[1:] < index[:-1]).any():
        order = index.argsort(kind="stable")
        table, index = table.iloc[order], index[order]
    expected = len(names) * n_layers * n_heads
    if len(index) != expected or (index != np.arange(expected)).any():
        raise AtlasError(
            f"scores: expected one row for each of {len(names)} relations x {n_layers} layers x {n_heads} heads "
            f"({expected} rows), found {len(index)} rows, {expected - len(np.unique(index))} places without one."
        )
    first = table.iloc[:: n_layers * n_heads]
    relations = [
        (str(row["relation"]), str(row["category"]), _known(row.get("k")), _known(row.get("pairs")))
        for row in first[[name for name in ("relation", "category", "k", "pairs") if name in table]].to_dict("records")
    ]
    shape = (len(names), n_layers, n_heads)
    validity = None
    if "validity" in table:
        validity = [str(kind) for kind in table["validity"].iloc[: n_layers * n_heads : n_heads].tolist()]
        without = table["validity"] == NOT_APPLICABLE
        counted = [name for name in (*SIDES, *HITS_VARIABLES.values(), *_copying_counts()) if name in table]
        known = [name for name in counted if table.loc[~without, name].notna().all()]
        table = table.assign(**{name: table[name].mask(without, 0) for name in known})
    complete = [name for name in table if table[name].notna().to_numpy().all()]
    whole = [name for name in HITS_VARIABLES.values() if name in complete]
    chosen = whole if len(whole) == 2 else [name for name in SIDES if name in complete]
    dtype = "int32" if len(whole) == 2 else "float64"
    arrays = {name: table[name].to_numpy(dtype=dtype).reshape(shape) for name in chosen}
    arrays |= {name: table[name].to_numpy().reshape(shape) for name in _all_chance_variables() if name in table}
    if all(name in complete for name in _copying_counts()):
        arrays |= {name: table[name].to_numpy(dtype="int32").reshape(shape) for name in _copying_counts()}
        arrays["copied"] = arrays["copied"][:, :, 0]
    return build_dataset(relations, arrays, validity)


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


def _known(value: Any) -> int:
    import pandas as pd

    return 0 if value is None or pd.isna(value) else int(value)


def _all_chance_variables() -> list[str]:
    """Of one number for each relation, layer and head that is no count."""
    levels = [name for names in COPYING_VARIABLES.values() for name in names[1:]]
    return [name for names in CHANCE_VARIABLES.values() for name in names] + levels


def _copying_counts() -> list[str]:
    return ["copied", *(names[0] for names in COPYING_VARIABLES.values())]


def head_name(layer: int, head: int) -> str:
    """A head's name, both counted from 0: `L23H4`."""
    return f"L{layer}H{head}"
