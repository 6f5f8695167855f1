"""Names for where heads look, from the shares of attention."""

import numpy as np
import pytest

from atlases import make_atlas, make_attention
from headatlas.analysis.reading import BEHAVIOURS, LIMITS, find_reading, reading_heads
from headatlas.errors import AtlasError, SettingsError
from headatlas.reports.report import write_report

SHARES = {
    "previous": {(0, 1): 0.9, (2, 3): 0.3},
    "induction": {(2, 3): 0.83, (3, 4): 0.31},
    "sink": {(2, 3): 0.6, (3, 0): 0.51, (0, 0): 0.5},
    "local": {(0, 1): 0.95, (0, 2): 0.7},
}


def test_heads_are_named_strictly_above_the_limit():
    reading = find_reading(make_attention(make_atlas(4, 5), SHARES))
    assert reading.names == tuple(LIMITS) == tuple(each.name for each in BEHAVIOURS)
    assert reading.strongest("previous") == [(0, 1, 0.9)]
    assert reading.strongest("induction") == [(2, 3, 0.83), (3, 4, 0.31)]
    assert reading.strongest("sink") == [(2, 3, 0.6), (3, 0, 0.51)]
    # A head of the previous token is local for that reason.
    assert reading.strongest("local") == [(0, 2, 0.7)]
    assert reading.count[2, 3] == 2 and (reading.count > 0).sum() == 5
    assert np.argwhere(reading.only("sink")).tolist() == [[3, 0]]
    assert reading.measured.all() and not reading.of("delimiter").any()


def test_a_share_has_to_be_beyond_chance():
    atlas = make_attention(make_atlas(4, 5), SHARES)
    table = atlas.evidence("attention")
    place = (table["behaviour"] == "induction") & (table["layer"] == 2) & (table["head"] == 3)
    for column, value in (("q_value", 0.01), ("chance", 0.75)):
        changed = table.assign(**{column: table[column].mask(place, value)})
        changed = atlas.with_evidence({"attention": (changed, atlas.manifest.evidence.attention)})
        assert find_reading(changed).strongest("induction") == [(3, 4, 0.31)]


def test_other_limits():
    atlas = make_attention(make_atlas(4, 5), SHARES)
    reading = find_reading(atlas, {"induction": 0.83, "previous": 0.2})
    assert not reading.of("induction").any() and len(reading.strongest("previous")) == 2
    assert reading.limits["sink"] == 0.5


def test_layers_without_heads_and_atlases_without_attention():
    assert find_reading(make_atlas(4, 5)) is None
    reading = find_reading(make_attention(make_atlas(4, 5, without_heads=(1,)), SHARES))
    assert not reading.measured[1].any() and reading.measured.sum() == 15
    assert np.isnan(reading.value[:, 1]).all() and not reading.has[:, 1].any()


def test_a_table_without_rows_measured_nothing():
    atlas = make_attention(make_atlas(3, 4))
    table, facts = atlas.evidence("attention"), atlas.manifest.evidence.attention
    empty = atlas.with_evidence({"attention": (table.iloc[:0], facts)})
    assert find_reading(empty) is None
    assert "Not measured; `headatlas attention`" in write_report(empty)


def test_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        find_reading(make_attention(make_atlas(2, 3))).has[0] = True


def test_where_each_head_looks_in_words():
    reading = find_reading(make_attention(make_atlas(4, 5, without_heads=(1,)), SHARES))
    assert reading.looks(2, 3) == (
        "Looks at the token behind an earlier copy of the current one (induction, 0.83 of its attention), otherwise at "
        "the first token (sink, 0.60 of its attention on text)"
    )
    assert reading.looks(3, 3) == "Looks at nothing that has a name"
    assert reading.looks(1, 0) is None
    both = {"previous": {(0, 0): 0.4}, "self": {(0, 0): 0.5}, "sink": {(0, 0): 0.9, (0, 1): 0.7}}
    reading = find_reading(make_attention(make_atlas(4, 5), both))
    assert reading.looks(0, 0) == (
        "Looks at the current token (self, 0.50 of its attention) and at the previous token (previous token, 0.40 of "
        "its attention), otherwise at the first token (sink, 0.90 of its attention on text)"
    )
    assert reading.looks(0, 1) == "Looks at the first token (sink, 0.70 of its attention on text)"


def test_a_table_of_the_heads_that_read_so():
    atlas = make_attention(make_atlas(4, 5), SHARES)
    rows = reading_heads(atlas, "induction")
    assert [(row["name"], row["share"], row["q"]) for row in rows] == [("L2H3", 0.83, 1e-9), ("L3H4", 0.31, 1e-9)]
    assert [row["low"] for row in rows] == pytest.approx([0.81, 0.29])
    assert reading_heads(atlas, "delimiter") == []
    with pytest.raises(SettingsError, match=r"reads: expected .*induction.*, found 'inductive'"):
        reading_heads(atlas, "inductive")
    with pytest.raises(AtlasError, match="expected where its heads look, found nothing"):
        reading_heads(make_atlas(4, 5), "induction")
