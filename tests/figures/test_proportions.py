"""Ticks and counts of the legend as plain numbers."""

from __future__ import annotations

import pytest

from headatlas.figures.proportions import named_counts, tick_step, ticks


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "step"),
    [
        (32, 32, 6),
        (12, 12, 2),
        (30, 9, 3),
        (48, 25, 8),
        (80, 64, 16),
        (6, 1, 1),
        (1, 1, 1),
        (24, 16, 4),
        (126, 128, 24),
    ],
)
def test_tick_steps(n_layers, n_heads, step):
    assert tick_step(n_layers, n_heads) == step == tick_step(n_heads, n_layers)


@pytest.mark.parametrize(
    ("given", "layers", "heads"),
    [
        ((30, 9), range(0, 30, 3), range(0, 9, 3)),
        ((18, 4), range(0, 18, 3), range(4)),
        ((48, 9), range(0, 48, 8), range(0, 9, 2)),
        ((6, 12), range(0, 6, 2), range(0, 12, 2)),
        ((2, 12), range(2), range(0, 12, 2)),
        ((1, 6), range(1), range(6)),
        ((18, 4, 1, 3), range(0, 18, 3), range(0, 4, 3)),
        ((48, 9, 12, 2), range(0, 48, 12), range(0, 9, 2)),
    ],
)
def test_an_axis_that_would_show_fewer_than_3_ticks_takes_its_own_step(given, layers, heads):
    assert ticks(*given) == (layers, heads)


def test_up_to_4_categories_every_count_is_named_and_of_more_those_that_occur():
    assert named_counts(4, {0, 1}) == [4, 3, 2]
    assert named_counts(5, {0, 1, 2, 5}) == [5, 2]
    assert named_counts(1, {1}) == named_counts(0, {0}) == []
