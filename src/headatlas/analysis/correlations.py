"""The agreement of scores from weights with the running model: Pearson's and Spearman's correlation over heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.atlas import SIDES
from headatlas.atlas.evidence import Correlation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from headatlas.atlas import Atlas

ALL = "all relations"
"""The relation of a correlation over all relations together."""


@dataclass(frozen=True)
class MeanCorrelation:
    """The mean of the correlations of several relations.

    Args:
        pearson, spearman: mean of the relations that have one; None if none has.
        relations: number of relations with a Pearson correlation.
    """

    side: str
    condition: str
    tokens: str
    pearson: float | None
    spearman: float | None
    relations: int


def correlate(atlas: Atlas, validation: pd.DataFrame) -> list[Correlation]:
    """The correlations by side, condition, number of source tokens and relation, each group followed by ALL.

    Args:
        validation: as `Atlas.evidence("validation")`.
    """
    rows = []
    for side in SIDES:
        if side not in atlas.data:
            continue
        groups: Any = validation.groupby(["condition", "tokens"], sort=False)
        for (condition, tokens), group in groups:
            parts = [(str(name), part) for name, part in group.groupby("relation", sort=False)]
            if len(parts) > 1:
                parts.append((ALL, group))
            for relation, part in parts:
                counted: Any = part.drop_duplicates("relation")["pairs"]
                static = _from_weights(atlas, side, part)
                coefficients = _coefficients(static, part[side].to_numpy())
                rows.append(
                    Correlation(
                        side, str(condition), str(tokens), relation, int(counted.sum()), len(part), *coefficients
                    )
                )
    return rows


def known_correlations(atlas: Atlas) -> list[Correlation]:
    """The correlations that the validation of an atlas has stored; empty without a validation."""
    facts = atlas.manifest.evidence.validation
    return [] if facts is None else list(facts.correlations)


def mean_over_relations(rows: list[Correlation]) -> list[MeanCorrelation]:
    """The mean correlation for each side, condition and number of source tokens."""
    groups: dict[tuple[str, str, str], list[Correlation]] = {}
    for row in rows:
        if row.relation != ALL:
            groups.setdefault((row.side, row.condition, row.tokens), []).append(row)
    return [
        MeanCorrelation(
            *group,
            pearson=_mean([row.pearson for row in each]),
            spearman=_mean([row.spearman for row in each]),
            relations=sum(row.pearson is not None for row in each),
        )
        for group, each in groups.items()
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _from_weights(atlas: Atlas, side: str, validation: pd.DataFrame) -> np.ndarray:
    """The score from the weights for the relation and head of each row."""
    import numpy as np

    number = {name: place for place, name in enumerate(atlas.relations)}
    relation = np.array([number[name] for name in validation["relation"]], dtype=int)
    return atlas.share(side).values[relation, validation["layer"].to_numpy(), validation["head"].to_numpy()]


def _coefficients(static: np.ndarray, running: np.ndarray) -> tuple[float | None, float | None]:
    """Pearson's and Spearman's correlation."""
    import numpy as np
    from scipy.stats import rankdata

    if len(static) < 2 or (static == static[0]).all() or (running == running[0]).all():
        return None, None
    ranks = rankdata(static), rankdata(running)
    return float(np.corrcoef(static, running)[0, 1]), float(np.corrcoef(*ranks)[0, 1])
