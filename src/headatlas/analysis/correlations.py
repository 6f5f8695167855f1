"""The agreement of scores from weights with the running model: Pearson's and Spearman's correlation over heads."""

from __future__ import annotations

from collections.abc import Callable
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

DRAWS, SEED = 2000, 0
"""Bootstrap samples of relations, and the seed of their choice."""

ByText = Callable[[str, str, str, str], "np.ndarray | None"]
"""By side, condition, tokens and relation, shares in the order of the table: Float[ndarray, "n_texts n_heads"]."""


@dataclass(frozen=True)
class Mean:
    """A mean over relations with the 95 % bootstrap interval over relations; the interval is None for one relation."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MeanCorrelation:
    """The mean of the correlations of several relations.

    Args:
        pearson, spearman, pooled: mean of the relations that have one; None if none has.
        relations: number of relations with a Pearson correlation.
    """

    side: str
    condition: str
    counted: str
    tokens: str
    pearson: Mean | None
    spearman: Mean | None
    pooled: Mean | None
    relations: int


def correlate(
    atlas: Atlas, validation: pd.DataFrame, counted: str = "own", by_text: ByText | None = None
) -> list[Correlation]:
    """The correlations by side, condition, number of source tokens and relation, each group followed by ALL.

    Args:
        validation: as `Atlas.evidence("validation")`.
        counted: the terms between head and logits in this table.
        by_text: the shares in each text, for the pooled correlation; without it, that is None.
    """
    import numpy as np
    import pandas as pd

    rows = []
    for side in SIDES:
        if side not in atlas.data:
            continue
        groups: Any = validation.groupby(["condition", "tokens"], sort=False)
        for (condition, tokens), group in groups:
            parts = [(str(name), part) for name, part in group.groupby("relation", sort=False)]
            found = None if by_text is None else [by_text(side, condition, tokens, name) for name, _ in parts]
            texts: list[Any] = [None] * len(parts) if found is None else found
            if len(parts) > 1:
                whole = None if any(each is None for each in texts) else np.concatenate(texts, axis=1)
                parts, texts = [*parts, (ALL, pd.concat([part for _, part in parts]))], [*texts, whole]
            for (relation, part), in_texts in zip(parts, texts, strict=True):
                counted_pairs: Any = part.drop_duplicates("relation")["pairs"]
                static, running = _from_weights(atlas, side, part), part[side].to_numpy()
                rows.append(
                    Correlation(
                        side=side,
                        condition=str(condition),
                        counted=counted,
                        tokens=str(tokens),
                        relation=relation,
                        pairs=int(counted_pairs.sum()),
                        points=len(part),
                        pearson=_pearson(static, running),
                        spearman=_spearman(static, running),
                        pooled=None if in_texts is None else _pearson(np.tile(static, len(in_texts)), in_texts.ravel()),
                    )
                )
    return rows


def known_correlations(atlas: Atlas, counted: str | None = "own") -> list[Correlation]:
    """The correlations that the validation of an atlas has stored; empty without a validation.

    Args:
        counted: only those with these terms; None: all.
    """
    facts = atlas.manifest.evidence.validation
    rows = [] if facts is None else list(facts.correlations)
    return [row for row in rows if counted in (None, row.counted)]


def mean_over_relations(rows: list[Correlation]) -> list[MeanCorrelation]:
    """The mean correlation for each side, condition, terms and number of source tokens."""
    groups: dict[tuple[str, str, str, str], list[Correlation]] = {}
    for row in rows:
        if row.relation != ALL:
            groups.setdefault((row.side, row.condition, row.counted, row.tokens), []).append(row)
    return [
        MeanCorrelation(
            *group,
            pearson=_mean([row.pearson for row in each]),
            spearman=_mean([row.spearman for row in each]),
            pooled=_mean([row.pooled for row in each]),
            relations=sum(row.pearson is not None for row in each),
        )
        for group, each in groups.items()
    ]


def _mean(values: list[float | None]) -> Mean | None:
    import numpy as np

    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None
    if len(known) == 1:
        return Mean(float(known[0]), None, None)
    drawn = np.random.default_rng(SEED).integers(len(known), size=(DRAWS, len(known)))
    low, high = np.quantile(known[drawn].mean(1), (0.025, 0.975))
    return Mean(float(known.mean()), float(low), float(high))


def _from_weights(atlas: Atlas, side: str, validation: pd.DataFrame) -> np.ndarray:
    """The score from the weights for the relation and head of each row."""
    import numpy as np

    number = {name: place for place, name in enumerate(atlas.relations)}
    relation = np.array([number[name] for name in validation["relation"]], dtype=int)
    return atlas.share(side).values[relation, validation["layer"].to_numpy(), validation["head"].to_numpy()]


def _pearson(static: np.ndarray, running: np.ndarray) -> float | None:
    import numpy as np

    if len(static) < 2 or (static == static[0]).all() or (running == running[0]).all():
        return None
    return float(np.corrcoef(static, running)[0, 1])


def _spearman(static: np.ndarray, running: np.ndarray) -> float | None:
    from scipy.stats import rankdata

    return _pearson(rankdata(static), rankdata(running)) if len(static) else None
