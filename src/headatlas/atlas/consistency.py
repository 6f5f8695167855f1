"""Whether the tables of an atlas agree with its manifest and with each other; each was checked by itself before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headatlas.atlas.columns import Columns
from headatlas.atlas.table import CHANCE_VARIABLES, COPYING_VARIABLES, HITS_SIDES, HITS_VARIABLES, NOT_APPLICABLE, Grid

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas.manifest import Manifest


def contradictions_of_scores(table: Columns, manifest: Manifest) -> Iterator[str]:
    """What in the table of scores contradicts its manifest or itself, in words: `expected ..., found ...`."""
    import numpy as np

    items = {item.relation: item for item in manifest.relations.items}
    codes, names = table.texts("relation").factorised
    category, categories = table.texts("category").factorised
    places = {name: place for place, name in enumerate(categories)}
    wanted = np.array([places.get(items[name].category, -1) for name in names], dtype=np.int64)[codes]
    if (different := np.flatnonzero(category != wanted)).size:
        row = different[0]
        name = names[codes[row]]
        yield (
            f"column 'category': expected {items[name].category!r} for {name!r} as in the manifest, found "
            f"{categories[category[row]]!r}"
        )
    for column in ("k", "pairs"):
        found = _counts(table, column)
        if found is None:
            continue
        known = np.array([float(getattr(items[name], column) or "nan") for name in names])[codes]
        if (different := np.flatnonzero((found != known) & ~(np.isnan(found) & np.isnan(known)))).size:
            row = different[0]
            yield (
                f"column {column!r}: expected {known[row]:,.0f} for {names[codes[row]]!r} as in the manifest, found "
                f"{found[row]:,.0f}"
            )
    yield from _validity_contradicts(table, manifest)
    without = table.texts("validity").equal(NOT_APPLICABLE)
    yield from _gaps(table, without)
    pairs = _counts(table, "pairs")
    for name in HITS_VARIABLES.values():
        yield from _above(table, name, pairs, "pairs")
    if "copied" in table and pairs is not None:
        copied = _counts(table, "copied")
        assert copied is not None
        yield from _above(table, "copied", pairs, "pairs")
        for side, names_of in COPYING_VARIABLES.items():
            yield from _above(table, names_of[0], pairs - copied, "pairs that are not copied")
            yield from _above(table, names_of[0], _counts(table, HITS_VARIABLES[side]), HITS_VARIABLES[side])


def contradictions_of_hits(grid: Grid, hits: Columns | None, pairs: Columns | None) -> Iterator[str]:
    """What in the tables of hits and pairs contradicts the scores or each other; begins with the file's name.

    Args:
        grid: the scores.
    """
    import numpy as np

    if pairs is not None:
        found = np.bincount(_numbers_of(grid, pairs), minlength=len(grid.relations))
        for name, n, expected in zip(grid.relations, found, grid.pairs, strict=True):
            if n != expected:
                yield f"pairs.parquet: expected {expected:,} pairs of {name!r} as in the scores, found {n:,}"
    if hits is None:
        return
    relation = _numbers_of(grid, hits)
    _, n_layers, n_heads = grid.shape
    place = (relation * n_layers + hits.numbers("layer")) * n_heads + hits.numbers("head")
    for share, side in HITS_SIDES.items():
        variable = HITS_VARIABLES[share]
        if variable not in grid:
            continue
        found = np.bincount(place[hits.texts("side").equal(side)], minlength=grid["score"].size)
        expected = grid[variable].ravel()
        if (different := np.flatnonzero(found != expected)).size:
            at = int(different[0])
            layer, head = divmod(at % (n_layers * n_heads), n_heads)
            yield (
                f"hits.parquet: expected {int(expected[at]):,} {side} pairs of "
                f"{grid.relations[at // (n_layers * n_heads)]!r} by L{layer}H{head} as in the scores, found "
                f"{int(found[at]):,}"
            )
    if "rank" in hits and len(hits):
        k = grid.k[relation]
        if ((hits.numbers("rank") >= k) & (k > 0)).any():
            yield "hits.parquet: column 'rank': expected ranks below the relation's k, found a larger one"
    if pairs is not None and len(hits):
        missing = ~np.isin(_pair_numbers(grid, hits), _pair_numbers(grid, pairs))
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            source, target, relation = (hits.texts(name)[row] for name in ("source", "target", "relation"))
            yield (
                f"hits.parquet: expected pairs of pairs.parquet, found {source[:60]!r} -> {target[:60]!r} of "
                f"{relation!r}"
            )


def _numbers_of(grid: Grid, table: Columns) -> np.ndarray:
    """The place of each row's relation among those of the scores, which has all: each table's were compared."""
    import numpy as np

    codes, names = table.texts("relation").factorised
    return np.array([grid.relations.index(name) for name in names], dtype=np.int64)[codes]


def _pair_numbers(grid: Grid, table: Columns) -> np.ndarray:
    """A number for each row that is equal for equal relations and tokens; both ids are below 2**31."""
    import numpy as np

    source, target = (table.numbers(name).astype("uint64") for name in ("source_id", "target_id"))
    tokens = source * np.uint64(2**31) + target
    # Mixed with the relation's number by an odd factor: wraps around, and keeps different pairs of one relation apart.
    return tokens * np.uint64(0x9E3779B97F4A7C15) + _numbers_of(grid, table).astype("uint64")


def _validity_contradicts(table: Columns, manifest: Manifest) -> Iterator[str]:
    import numpy as np

    codes, kinds = table.texts("validity").factorised
    layers = table.numbers("layer")
    of_layer = np.full(manifest.model.n_layers, -1)
    of_layer[layers] = codes
    if (of_layer[layers] != codes).any():
        yield "column 'validity': expected one for all heads of a layer, found several"
        return
    known = {layer: each.kind for each in manifest.model.validity for layer in each.layers}
    for layer, code in enumerate(of_layer):
        if known and code >= 0 and kinds[code] != known[layer]:
            yield f"column 'validity': expected {known[layer]!r} in layer {layer} as in the manifest, found " \
                  f"{kinds[code][:60]!r}"  # fmt: skip
            return


def _gaps(table: Columns, without: np.ndarray) -> Iterator[str]:
    """Values that are missing where a head has some, or known of one side alone."""
    complete: dict[str, bool] = {}
    known_levels = [name for names in CHANCE_VARIABLES.values() for name in (names[0], names[2])]
    known_levels += [name for names in COPYING_VARIABLES.values() for name in (names[0], names[2])] + ["copied"]
    for name in ("score", "suppression", *HITS_VARIABLES.values(), *known_levels):
        if name not in table:
            continue
        there = table.known(name)[~without]
        complete[name] = bool(there.all()) and len(there) > 0
        # Scores alone can be known, as of an import; then all others are missing in every row.
        if not complete[name] and (there.any() or name == "score" or name in known_levels) and len(there):
            yield f"column {name!r}: expected a value for each head, found none for some"
    known, other = (complete.get(name, False) for name in HITS_VARIABLES.values())
    if known != other:
        yield f"expected {' and '.join(HITS_VARIABLES.values())} both or neither, found one"
    pairs = _counts(table, "pairs")
    if known and (pairs is None or not (pairs >= 1).all()):
        yield "column 'pairs': expected at least 1 where hits are known, found fewer or none"
    if not known and "copied" in table:
        yield "column 'copied': expected none without hits, found some"


def _counts(table: Columns, name: str) -> Any:
    return table.numbers(name) if name in table else None


def _above(table: Columns, name: str, most: Any, of: str) -> Iterator[str]:
    found = _counts(table, name)
    if found is not None and most is not None and (found > most).any():
        row = int((found > most).argmax())
        yield f"column {name!r}: expected at most the number of {of}, {most[row]:,.0f}, found {found[row]:,.0f}"
