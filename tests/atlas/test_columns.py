"""Plain columns: what Parquet can hold becomes the same arrays, and the same frame, as by pandas' own reading."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlases import replace_table
from headatlas.atlas import COPYING_VARIABLES, Atlas, load_atlas, records
from headatlas.atlas.columns import Columns, Counts, Texts, columns_of_frame
from headatlas.atlas.evidence import EVIDENCE
from headatlas.errors import AtlasError

SIDES = ("score", "suppression")


def changed(table, name, values, kind):
    at = table.column_names.index(name)
    return table.set_column(at, name, pa.array(values, kind))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "uint8", "uint16", "uint32"])
def test_whole_numbers_of_every_width(folder, kind):
    table = pq.read_table(folder / "similar.parquet")
    replace_table(folder, "similar", changed(table, "rank", table["rank"].to_pylist(), getattr(pa, kind)()))
    found = load_atlas(folder).evidence_columns("similar").numbers("rank")
    assert found.dtype == kind and found.tolist() == table["rank"].to_pylist()


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_numbers_of_both_widths_and_missing_ones(folder, kind):
    table = pq.read_table(folder / "attention.parquet")
    values = [None if row % 3 == 1 else row / 64 for row in range(len(table))]
    replace_table(folder, "attention", changed(table, "value", values, getattr(pa, kind)()))
    found = load_atlas(folder).evidence_columns("attention")
    assert found.numbers("value").dtype == kind
    assert [None if value != value else value for value in found.numbers("value").tolist()] == values
    assert found.known("value").tolist() == [value is not None for value in values]


def test_flags_and_counts_that_are_missing(folder):
    table = pq.read_table(folder / "scores.parquet")
    flags = [None if row % 5 == 0 else row % 3 == 0 for row in range(len(table))]
    replace_table(folder, "scores", changed(table, "chance_exact", flags, pa.bool_()))
    atlas = load_atlas(folder)
    assert atlas.grid["chance_exact"].ravel().tolist() == [bool(flag) for flag in flags]
    table = pd.read_parquet(folder / "scores.parquet")
    assert atlas.table["hits"].equals(table["hits"]) and table["hits"].isna().any()


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_texts_in_groups_of_rows_with_a_dictionary_each(folder, rows):
    expected = pd.read_parquet(folder / "hits.parquet")
    replace_table(folder, "hits", pq.read_table(folder / "hits.parquet"), row_group_size=rows, use_dictionary=rows != 7)
    pd.testing.assert_frame_equal(load_atlas(folder).pair_hits, expected)


def test_a_dictionary_with_a_text_twice_and_one_of_no_row():
    texts = Texts(np.array([3, 1, 0, 1, 3]), pa.array(["b", "a", "gone", "b"]))
    numbers, names = texts.factorised
    assert numbers.tolist() == [0, 1, 0, 1, 0] and names == ["b", "a"]
    assert texts.to_list() == ["b", "a", "b", "a", "b"] and texts[1] == "a"
    assert texts.equal("b").tolist() == [True, False, True, False, True] and not texts.equal("gone").any()


def test_a_frame_there_and_back():
    frame = pd.DataFrame(
        {
            "count": pd.array([3, None, 5], dtype="Int64"),
            "share": [0.5, np.nan, 1.0],
            "flag": [True, False, True],
            "text": ["x", "y", "x"],
        }
    )
    columns = columns_of_frame(frame)
    pd.testing.assert_frame_equal(columns.frame(), frame)
    assert len(columns) == 3 and list(columns) == list(frame) and "other" not in columns
    assert columns.known("count").tolist() == columns.known("share").tolist() == [True, False, True]
    assert columns.rows() == records(frame)
    surrogate = columns_of_frame(pd.DataFrame({"text": ["\udcff", "x"]}, dtype=object))
    assert surrogate.rows() == [{"text": "\udcff"}, {"text": "x"}]
    assert Columns({}).rows() == columns.take(np.zeros(3, dtype=bool)).rows() == []
    pd.testing.assert_frame_equal(columns.take(np.array([2, 0])).frame(), frame.iloc[[2, 0]].reset_index(drop=True))
    assert len(Columns({})) == 0 and len(Columns({"count": Counts(np.arange(2), np.zeros(2, bool))})) == 2


def test_labelled_arrays_and_frames_are_made_once_and_are_what_was_saved(folder):
    atlas = load_atlas(folder)
    assert atlas.data is atlas.data and atlas.pair_hits is atlas.pair_hits and atlas.pairs is atlas.pairs
    assert atlas.evidence("similar") is atlas.evidence("similar")
    again = dataclasses.replace(atlas, data=atlas.data.isel(head=slice(0, 2)))
    assert (again.n_heads, atlas.n_heads) == (2, 3)
    with pytest.raises(TypeError, match="data"):
        Atlas(manifest=atlas.manifest)
    with pytest.raises(dataclasses.FrozenInstanceError):
        atlas.pairs = None
    with pytest.raises(AtlasError, match="came without suppression"):
        _ = dataclasses.replace(atlas, data=atlas.data.drop_vars("suppression")).suppression


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("rule", ["plain", "calibrated"])
def test_rows_are_those_of_the_frame(folder, side, rule):
    atlas = load_atlas(folder)
    frame, rows = atlas.heads(side=side, rule=rule, min_score=0), atlas.head_rows(side=side, rule=rule, min_score=0)
    assert [list(row.values()) for row in rows] == [
        [None if pd.isna(value) else value for value in row] for row in frame.itertuples(index=False)
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows or (side, rule) == ("suppression", "calibrated")


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_rows_of_each_table_of_evidence_are_those_of_its_frame(folder, name):
    atlas, again = load_atlas(folder), load_atlas(folder)
    columns, frame = atlas.evidence_columns(name), again.evidence(name)
    assert columns.rows() == records(frame) and len(columns)
    if "layer" in columns:
        own = frame[(frame["layer"] == 1) & (frame["head"] == 2)]
        assert columns.of_head(1, 2).rows() == records(own)


@pytest.mark.parametrize("side", SIDES)
def test_statistics_are_what_labelled_arrays_hold(folder, side):
    atlas = load_atlas(folder)
    (low, high), (uncopied_low, uncopied_high) = atlas.interval(side), atlas.uncopied_interval(side)
    expected = {
        "low": low,
        "high": high,
        "chance": atlas.chance(side),
        "chance_exact": atlas.chance_exact(side),
        "p": atlas.p_values(side),
        "q": atlas.q_values(side),
        "uncopied": atlas.uncopied(side),
        "uncopied_hits": atlas.data[COPYING_VARIABLES[side][0]],
        "uncopied_pairs": atlas.uncopied_pairs.broadcast_like(atlas.scores),
        "uncopied_low": uncopied_low,
        "uncopied_high": uncopied_high,
        "uncopied_chance": atlas.uncopied_chance(side),
        "uncopied_q": atlas.uncopied_q_values(side),
    }
    found = atlas.statistics(side)
    assert set(found) == {*expected, "copying"} and found["copying"].tolist() == atlas.by_copying(side=side).tolist()
    for name, values in expected.items():
        assert np.array_equal(found[name], values.values, equal_nan=True), name
        assert values.dims == atlas.scores.dims, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["heads", "--json"],
        ["heads"],
        ["heads", "--side", "suppression", "--min-score", "0"],
        ["heads", "--reads", "sink"],
        ["head", "l1h2"],
        ["head", "L1H2", "--json"],
        ["head", "L1H2", "--markdown"],
    ],
    ids=" ".join,
)
def test_heads_and_cards_start_without_pandas_and_xarray(folder, arguments):
    command, *others = arguments
    code = f"""
import sys; sys.argv = {["headatlas", command, str(folder), "--rule", "plain", *others]!r}
from headatlas.cli import main
try: main()
except SystemExit as end: assert not end.code
print([name for name in ("pandas", "xarray", "scipy", "matplotlib", "torch", "pyarrow.dataset") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    assert len(done.stdout.splitlines()) > 1 and done.stdout.splitlines()[-1] == "[]", done.stderr
