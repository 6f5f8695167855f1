"""The tables of salient operations, made from the arrays of all layers; knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BLOCK = 4096
"""Numbers of each head that are multiplied at once, so that no copy of all outputs is made."""


def salient_table(layers: Sequence[dict[str, np.ndarray]], texts: Sequence[str]) -> tuple[pd.DataFrame, int, int]:
    """The table `salient`; heads whose output is 0, and salient tokens whose output is 0, which have no rows."""
    import numpy as np
    import pandas as pd

    names = np.asarray(texts, dtype=object)
    tables, without_output, left_out = [], 0, 0
    for layer, arrays in enumerate(layers):
        if not arrays:
            continue
        there = arrays["amplification"] > 0
        without_output += int((~there.any(1)).sum())
        left_out += int((~there).sum())
        for side in ("promoted", "suppressed"):
            places = np.indices(arrays[side].shape)
            head, rank, to_rank = places[0], places[1], places[2]
            chosen = np.broadcast_to(there[..., None], head.shape)
            token, to = np.broadcast_to(arrays["token"][..., None], head.shape), arrays[side]
            amplification = np.broadcast_to(arrays["amplification"][..., None], head.shape)
            columns = {
                "layer": np.full(chosen.sum(), layer),
                "head": head[chosen],
                "rank": rank[chosen],
                "token_id": token[chosen],
                "token": names[token[chosen]],
                "amplification": amplification[chosen],
                "side": np.full(chosen.sum(), side, dtype=object),
                "to_rank": to_rank[chosen],
                "to_id": to[chosen],
                "to_token": names[to[chosen]],
            }
            tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    order = ["layer", "head", "rank", "side", "to_rank"]
    return table.sort_values(order, ignore_index=True), without_output, left_out


def similar_table(outputs: Sequence[np.ndarray | None], n_similar: int) -> pd.DataFrame:
    """The table `similar`: of each head the heads with the largest cosine, a head without output left out.

    Args:
        outputs: of each layer, Float[ndarray, "n_heads n_numbers"], None where the layer has no heads.
    """
    import numpy as np
    import pandas as pd

    places, rows = [], []
    for layer, each in enumerate(outputs):
        for head, numbers in enumerate(() if each is None else each):
            if (length := np.linalg.norm(numbers.astype(np.float64))) > 0:
                places.append((layer, head))
                rows.append((numbers / length).astype(np.float32))
    columns = ["layer", "head", "rank", "other_layer", "other_head", "similarity"]
    if len(rows) < 2:
        return pd.DataFrame({name: np.empty(0, float if name == "similarity" else int) for name in columns})
    unit = np.stack(rows)
    # In float64 and rounded, so that the order does not depend on how the products were summed.
    parts = (unit[:, start : start + BLOCK].astype(np.float64) for start in range(0, unit.shape[1], BLOCK))
    all_cosines = np.round(sum(part @ part.T for part in parts), 5).clip(-1, 1)
    np.fill_diagonal(all_cosines, -np.inf)
    pairs_of_heads = []
    for place, cosines in zip(places, all_cosines, strict=True):
        for rank, other in enumerate(np.argsort(-cosines, kind="stable")[: min(n_similar, len(rows) - 1)]):
            pairs_of_heads.append((*place, rank, *places[other], float(cosines[other])))
    return pd.DataFrame(pairs_of_heads, columns=columns)
