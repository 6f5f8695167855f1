"""What the figure and the explorer's page draw alike: lines between cells, ticks, and the order of the legend.

Its numbers and words are in `proportions.json`, which `explorer/src/proportions.ts` reads too; the page follows the
same rules, and a test compares their results. Knows neither atlas nor matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from pathlib import Path


@dataclass(frozen=True)
class Proportions:
    """The contents of `proportions.json`.

    Args:
        line_from: pixels; cells of this size or larger have a line between them, so that heads can be counted.
        tick_steps: distances between ticks: numbers that divide common counts of layers and heads.
        usual_ticks: most ticks on the longer axis; `most_ticks` where the shorter one would otherwise have fewer than
            `least_ticks`.
        named_counts: with at most so many categories, the legend names every number of them that a head may have.
        composite: title of the first panel.
        rest: what heads without a category are called; `no_heads`, layers without attention heads.
    """

    line_from: int
    tick_steps: list[int]
    usual_ticks: int
    most_ticks: int
    least_ticks: int
    named_counts: int
    composite: str
    rest: str
    no_heads: str


PROPORTIONS = Proportions(**json.loads(Path(__file__).with_suffix(".json").read_text("utf-8")))


def tick_step(n_layers: int, n_heads: int, at_least: int = 1) -> int:
    """One distance between ticks for both axes: at most 6 ticks on the longer axis.

    If the shorter axis would then have fewer than 3 ticks, the longer one may have up to 10.

    >>> tick_step(32, 32), tick_step(30, 9)
    (6, 3)
    """
    long, short = max(n_layers, n_heads), min(n_layers, n_heads)
    steps = [step for step in PROPORTIONS.tick_steps if step >= at_least]
    step = next((step for step in steps if ceil(long / step) <= PROPORTIONS.usual_ticks), steps[-1])
    finer = next((step for step in steps if ceil(long / step) <= PROPORTIONS.most_ticks), step)
    return finer if ceil(short / step) < PROPORTIONS.least_ticks <= ceil(short / finer) else step


def ticks(n_layers: int, n_heads: int, for_layers: int = 1, for_heads: int = 1) -> tuple[range, range]:
    """Positions of the ticks along both axes; an axis that would show fewer than 3 gets its own step.

    Args:
        for_layers, for_heads: the least step that leaves room for the numbers.

    >>> [list(axis) for axis in ticks(9, 6)]
    [[0, 2, 4, 6, 8], [0, 2, 4]]
    >>> [list(axis) for axis in ticks(18, 4)]
    [[0, 3, 6, 9, 12, 15], [0, 1, 2, 3]]
    """
    shared = tick_step(n_layers, n_heads, max(for_layers if n_layers > 1 else 1, for_heads if n_heads > 1 else 1))

    def along(count: int, at_least: int) -> range:
        step = shared if ceil(count / shared) >= PROPORTIONS.least_ticks else tick_step(count, count, at_least)
        return range(0, count, step)

    return along(n_layers, for_layers), along(n_heads, for_heads)


def named_counts(n_categories: int, occurring: Collection[int]) -> list[int]:
    """The numbers of categories that the legend names, from top to bottom.

    Args:
        occurring: those that heads have.
    """
    every = n_categories <= PROPORTIONS.named_counts
    return [count for count in range(n_categories, 1, -1) if every or count in occurring]
