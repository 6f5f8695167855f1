"""Other tools' formats."""

import io
import json

import pandas as pd
import pytest

from atlases import make_atlas
from headatlas.errors import SettingsError
from headatlas.reports.export import export


def test_csv_is_the_table():
    atlas = make_atlas(n_layers=3, n_heads=2)
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(export(atlas, "csv"))), atlas.table, check_dtype=False, check_exact=True
    )


def test_csv_cells_do_not_become_formulas():
    atlas = make_atlas(n_layers=1, n_heads=1, categories=("=1+1",), relations=("@SUM(A1)",))
    assert export(atlas, "csv").splitlines()[1].startswith("'@SUM(A1),'=1+1,0,0,")


def test_json_is_table_and_manifest():
    atlas = make_atlas(n_layers=3, n_heads=2)
    content = json.loads(export(atlas, "json"))
    assert len(content["scores"]) == len(atlas.table) and content["manifest"]["label"] == "maps"


def test_head_lists_name_each_head_once_strongest_first():
    atlas = make_atlas(n_layers=7, n_heads=5, seed=1)
    content = json.loads(export(atlas, "heads"))
    knowledge = content["categories"]["Knowledge"]
    rows = atlas.heads("Knowledge")
    assert knowledge == rows[["layer", "head"]].drop_duplicates().to_numpy().tolist()
    assert knowledge[0] == [rows["layer"][0], rows["head"][0]]
    assert content["relations"]["knowledge_relation"] == knowledge
    suppressed = json.loads(export(atlas, "heads", side="suppression"))
    assert suppressed["relations"] != content["relations"] and suppressed["side"] == "suppression"


def test_unknown_format():
    with pytest.raises(SettingsError, match="one of csv, json, heads, headvis-json, full-attention, found 'x'"):
        export(make_atlas(), "x")
