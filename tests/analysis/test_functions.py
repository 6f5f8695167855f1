"""Heads with a named function, and the meetings of reading with writing."""

from dataclasses import replace

import numpy as np
import pytest

from atlases import make_atlas, make_attention
from headatlas.analysis.categories import classify
from headatlas.analysis.functions import find_functions
from headatlas.analysis.meetings import find_meetings, find_meetings_between
from headatlas.atlas import SIDES, Atlas


def writing(atlas: Atlas, rule: str = "plain") -> np.ndarray:
    return np.logical_or.reduce([classify(atlas, side=side, rule=rule).count > 0 for side in SIDES])


def test_heads_are_counted_once():
    atlas = make_atlas(7, 5, ("Knowledge",), share=0.3)
    writes = writing(atlas)
    (one, two), (free, *others) = np.argwhere(writes)[:2].tolist(), np.argwhere(~writes).tolist()
    shares = {
        "induction": {tuple(one): 0.9, tuple(free): 0.5},
        "sink": {tuple(two): 0.9, tuple(others[0]): 0.8, tuple(others[1]): 0.45, tuple(free): 0.55},
    }
    found = find_functions(make_attention(atlas, shares))
    assert (found.n_heads, found.writing, found.looking, found.both) == (35, writes.sum(), 4, 2)
    assert found.any == writes.sum() + 2 and found.only_sink == 1 and found.rule == "plain"
    assert found.by_limit["sink"] == (4, 3, 2) and found.by_limit["induction"] == (2, 2, 2)


def test_categories_have_to_be_beyond_chance_where_that_is_known():
    atlas = make_atlas(7, 5, ("Knowledge", "Linguistic"), share=0.4, chance=True)
    found = find_functions(make_attention(atlas, {}))
    assert found.rule == "calibrated" and found.looking == 0
    assert found.writing == writing(atlas, "calibrated").sum() < writing(atlas).sum()


def test_heads_that_only_suppress_write_too():
    atlas = make_atlas(7, 5, ("Knowledge", "Linguistic"), share=0.4)
    promotes, suppresses = (classify(atlas, side=side).count > 0 for side in SIDES)
    only = np.argwhere(suppresses & ~promotes).tolist()
    found = find_functions(make_attention(atlas, {"sink": {tuple(only[0]): 0.9}}))
    assert found.suppressing == len(only) > 1
    assert found.writing == promotes.sum() + len(only) == found.any and found.both == 1 and found.only_sink == 0
    unknown = replace(atlas, data=atlas.data.drop_vars(["suppression", "suppression_hits"]))
    found = find_functions(make_attention(unknown, {}))
    assert (found.suppressing, found.writing) == (0, promotes.sum())


def test_without_attention_nothing_is_known():
    assert find_functions(make_atlas(3, 4)) is None


def test_a_meeting_of_reading_and_writing_is_found_and_layers_without_heads_take_no_part():
    atlas = make_atlas(9, 8, ("Knowledge", "Linguistic"), share=0.4, without_heads=(4,))
    knows = np.argwhere(classify(atlas).of("Knowledge"))
    shares = {"duplicate": {(int(layer), int(head)): 0.6 for layer, head in knows}}
    found = find_functions(make_attention(atlas, shares))
    assert {each.pair for each in found.meetings} == {("Duplicate", "Knowledge"), ("Duplicate", "Linguistic")}
    met, other = found.meetings
    assert met.observed == len(knows) and met.p_in_layers_adjusted < 0.001 < other.p_in_layers_adjusted
    assert found.n_heads == 8 * 8


def test_meetings_between_two_lists_are_those_of_their_pairs():
    generator = np.random.default_rng(0)
    a, b, c = (generator.random((7, 5)) < 0.4 for _ in range(3))
    between = find_meetings_between([("a", a), ("b", b)], [("c", c)])
    pairs = {each.pair: each for each in find_meetings([("a", a), ("b", b), ("c", c)])}
    assert [each.pair for each in between] == [("a", "c"), ("b", "c")]
    for each in between:
        assert each.p == pairs[each.pair].p and each.p_in_layers == pairs[each.pair].p_in_layers
    # Two pairs instead of three are tested.
    assert between[0].p_adjusted == pytest.approx(min(1, max(between[0].p * 2, 0))) or between[0].p > between[1].p
