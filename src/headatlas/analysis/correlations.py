"""How far the running model's scores follow those of the weights: Pearson's and Spearman's correlation over heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headatlas.atlas import KINDS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from headatlas.atlas import Atlas

ALL = "all relations"


def correlate(atlas: Atlas, validation: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per kind, condition, length of sources and relation, and one for all relations together.

    Args:
        validation: as `Atlas.evidence("validation")`.

    Returns:
        Rows of `kind`, `condition`, `tokens`, `relation`, `pairs`, `points` (heads; heads x relations for all of
        them), `pearson` and `spearman`: -1 to 1, None where one of both scores is the same for all heads.
    """
    rows = []
    for kind in KINDS:
        if kind not in atlas.data:
            continue
        groups: Any = validation.groupby(["condition", "tokens"], sort=False)
        for (condition, tokens), part in groups:
            both = [
                (str(name), each, _static(atlas, kind, each)) for name, each in part.groupby("relation", sort=False)
            ]
            several = len(both) > 1
            pooled = [(ALL, part, _static(atlas, kind, part))] if several else []
            for relation, each, static in [*both, *pooled]:
                counted: Any = each.drop_duplicates("relation")["pairs"]
                rows.append(
                    {
                        "kind": kind,
                        "condition": str(condition),
                        "tokens": str(tokens),
                        "relation": relation,
                        "pairs": int(counted.sum()),
                        "points": len(each),
                        **_coefficients(static, each[kind].to_numpy()),
                    }
                )
    return rows


def mean_over_relations(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each kind, condition and length of sources: the mean of each coefficient, and of how many relations."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["relation"] != ALL:
            groups.setdefault((row["kind"], row["condition"], row["tokens"]), []).append(row)
    means = []
    for (kind, condition, tokens), each in groups.items():
        mean: dict[str, Any] = {"kind": kind, "condition": condition, "tokens": tokens}
        for name in ("pearson", "spearman"):
            known = [row[name] for row in each if row[name] is not None]
            mean |= {name: sum(known) / len(known) if known else None}
        mean["relations"] = sum(row["pearson"] is not None for row in each)
        means.append(mean)
    return means


def _static(atlas: Atlas, kind: str, validation: pd.DataFrame) -> np.ndarray:
    """The score by the weights of each row's relation and head."""
    import numpy as np

    number = {name: place for place, name in enumerate(atlas.relations)}
    relation = np.array([number[name] for name in validation["relation"]], dtype=int)
    return atlas.kind(kind).values[relation, validation["layer"].to_numpy(), validation["head"].to_numpy()]


def _coefficients(static: np.ndarray, running: np.ndarray) -> dict[str, float | None]:
    import numpy as np
    from scipy.stats import rankdata

    if len(static) < 2 or (static == static[0]).all() or (running == running[0]).all():
        return {"pearson": None, "spearman": None}
    return {
        "pearson": float(np.corrcoef(static, running)[0, 1]),
        "spearman": float(np.corrcoef(rankdata(static), rankdata(running))[0, 1]),
    }
