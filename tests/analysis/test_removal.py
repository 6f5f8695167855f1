"""Which falls of in-context copying are clear, and how they are told."""

import pytest

from atlases import make_atlas, make_removal
from headatlas.analysis.removal import find_removal


def test_nothing_measured():
    assert find_removal(make_atlas(3, 4)) is None


def test_a_fall_is_clear_beyond_its_interval_and_beyond_all_controls():
    falls = {(0, 1): 0.4, (1, 2): 0.03, (2, 0): 0.01, (2, 1): -0.2}
    found = find_removal(make_removal(make_atlas(3, 4), falls, {(0, 0): 0.05, (1, 0): -0.2}))
    assert found.largest_control == 0.05
    assert {place for place, fall in found.falls.items() if fall.is_clear} == {(0, 1)}
    without = find_removal(make_removal(make_atlas(3, 4), falls))
    # Without controls, an interval that includes 0 or lies below it is still not clear.
    assert {place for place, fall in without.falls.items() if fall.is_clear} == {(0, 1), (1, 2), (2, 1)}
    assert without.strongest([(1, 2), (2, 1), (0, 1), (0, 3)]) == [("L0H1", 0.4), ("L1H2", 0.03)]
    # A control is not told as clear, however large its fall.
    assert not find_removal(make_removal(make_atlas(3, 4), {}, {(0, 0): 0.5})).falls[0, 0].is_clear


@pytest.mark.parametrize(
    "place, facts, clause",
    [
        ((0, 1), {}, "without it in-context copying falls by 0.40 (from 0.80)"),
        ((1, 2), {}, "without it in-context copying does not clearly change (-0.01)"),
        ((2, 1), {}, "without it in-context copying rises by 0.20 (from 0.80)"),
        ((2, 2), {}, None),
        (
            (0, 1),
            {"probability": 0.04},
            "without it: not measurable, the model itself hardly copies (0.04)",
        ),
    ],
)
def test_clauses(place, facts, clause):
    falls = {(0, 1): 0.4, (1, 2): 0.01, (2, 1): -0.2}
    assert find_removal(make_removal(make_atlas(3, 4), falls, **facts)).clause(*place) == clause
