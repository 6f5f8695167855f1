"""The orders of removal in the table `ablation`, and its curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

BY_SCORE = "score"
"""Column `order` of the table: the heads are removed in the order of the atlas's scores, the strongest first."""

BY_OTHER_SCORE = "other score"
"""Column `order` of the table: the same for the atlas that this one is compared with."""

RANDOM = "random "


def random_order(draw: int) -> str:
    """Column `order` of the table: a random draw of other heads is removed; draws are counted from 1."""
    return f"{RANDOM}{draw}"


def is_random_order(order: str) -> bool:
    """Whether a value of the column `order` is that of a random draw.

    >>> is_random_order(random_order(3)), is_random_order(BY_SCORE), is_random_order(BY_OTHER_SCORE)
    (True, False, False)
    """
    return order.startswith(RANDOM)


@dataclass(frozen=True)
class RemovalPoint:
    """What is left after a number of heads is removed; means over the curves of a kind.

    Args:
        removed: number of heads.
        accuracy: share of prompts that are answered correctly, and `lowest`, `highest` of the curves.
        log_probability: mean over prompts, of all targets of a source together.
    """

    removed: int
    accuracy: float
    lowest: float
    highest: float
    log_probability: float


@dataclass(frozen=True)
class RemovalCurves:
    """The curves of one relation.

    Args:
        own: of its task, in the order of the scores.
        other: the same in the order of the other atlas's scores; empty without one.
        random: of its task, the mean of the draws of random heads.
        controls, controls_other: of other tasks, the mean over tasks, in either order of the relation's heads.
    """

    own: list[RemovalPoint]
    other: list[RemovalPoint]
    random: list[RemovalPoint]
    controls: list[RemovalPoint]
    controls_other: list[RemovalPoint]


def removal_curves(table: pd.DataFrame, relation: str) -> RemovalCurves:
    """The curves of a relation.

    Args:
        table: as `Atlas.evidence("ablation")`.
    """
    rows: Any = table[table["relation"] == relation]
    own, others = rows[rows["task"] == relation], rows[rows["task"] != relation]
    return RemovalCurves(
        own=_points(own[own["order"] == BY_SCORE]),
        other=_points(own[own["order"] == BY_OTHER_SCORE]),
        random=_points(own[own["order"].map(is_random_order)]),
        controls=_points(others[others["order"] == BY_SCORE]),
        controls_other=_points(others[others["order"] == BY_OTHER_SCORE]),
    )


def _points(rows: Any) -> list[RemovalPoint]:
    rows = rows.assign(accuracy=rows["correct"] / rows["prompts"])
    points = []
    for removed, of in rows.groupby("removed"):
        shares = of["accuracy"]
        points.append(
            RemovalPoint(
                removed=int(removed),
                accuracy=float(shares.mean()),
                lowest=float(shares.min()),
                highest=float(shares.max()),
                log_probability=float(of["log_probability"].mean()),
            )
        )
    return points
