"""The result: exact thresholds, tables, heads, and folders that are either whole or no atlas."""

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest

from atlases import DESCRIPTIONS, SIMILAR, make_atlas, make_evidence, with_manifest, with_pairs
from headatlas.atlas import EVIDENCE, Atlas, build_dataset, dataset_from_table, load_atlas, save_atlas, save_evidence
from headatlas.atlas.evidence import EvidenceFacts
from headatlas.errors import AtlasError, SettingsError


def one_relation(hits, pairs: int, **manifest) -> Atlas:
    """An atlas of one relation with these hits, as (layer, head)."""
    hits = np.asarray(hits, dtype="int32")[None]
    data = build_dataset([("r", "C", 10, pairs)], {"hits": hits, "suppression_hits": hits[..., ::-1]})
    return with_manifest(Atlas(data, make_atlas(categories=("C",), relations=("r",)).manifest), **manifest)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        ("0.15", [False, False, True]),
        ("0.1499999999999999999999", [False, True, True]),
        ("0.1500000000000000000001", [False, False, True]),
        ("3/20", [False, False, True]),
        (0.15, [False, False, True]),
        ("0.2", [False, False, False]),
        ("0", [True, True, True]),
    ],
)
def test_thresholds_are_strict_and_exact(threshold, expected):
    atlas = one_relation([[2, 3, 4]], pairs=20)
    assert atlas.above(threshold)[0, 0].tolist() == expected
    assert atlas.above(threshold, "suppression")[0, 0].tolist() == expected[::-1]


def test_no_head_with_zero_hits_is_above_zero():
    assert not one_relation([[0]], pairs=20).above("0").any()


def test_scores_are_labelled_arrays():
    atlas = make_atlas(n_layers=5, n_heads=3)
    assert atlas.scores.dims == ("relation", "layer", "head")
    score = atlas.scores.sel(relation="knowledge_relation", layer=4, head=2).item()
    row = atlas.table.query("relation == 'knowledge_relation' and layer == 4 and head == 2")
    assert row["score"].item() == score == row["hits"].item() / row["pairs"].item()


def test_table_has_a_row_per_relation_layer_and_head():
    atlas = make_atlas(n_layers=5, n_heads=3)
    assert list(atlas.table) == [
        "relation", "category", "layer", "head", "k", "pairs", "hits", "suppression_hits", "score", "suppression",
        "validity",
    ]  # fmt: skip
    assert len(atlas.table) == 4 * 5 * 3 and not atlas.table.isna().any().any()


def test_heads_are_sorted_and_selected():
    atlas = make_atlas(n_layers=7, n_heads=5, seed=1)
    rows = atlas.heads()
    assert len(rows) == atlas.above().sum() and rows["score"].is_monotonic_decreasing
    assert set(atlas.heads("Knowledge")["category"]) == {"Knowledge"}
    assert set(atlas.heads(relation="linguistic_relation")["relation"]) == {"linguistic_relation"}
    assert (atlas.heads(min_score="0.9")["score"] > 0.9).all()
    first = rows.iloc[0]
    assert first["name"] == f"L{first['layer']}H{first['head']}"
    assert atlas.scores.sel(relation=first["relation"], layer=first["layer"], head=first["head"]) == first["score"]
    assert len(atlas.heads(side="suppression")) == atlas.above(side="suppression").sum()


def test_heads_refuse_unknown_names_but_know_relations_that_were_not_measurable():
    atlas = make_atlas(unmeasured=("Translation",), categories=("Knowledge",))
    assert atlas.heads("Translation").empty
    with pytest.raises(SettingsError, match="category: expected one of Knowledge, Translation, found 'Nowhere'"):
        atlas.heads("Nowhere")
    with pytest.raises(SettingsError, match=r"relation: expected one of .*, found 'none'"):
        atlas.heads(relation="none")


def test_coverage_tells_what_was_not_measured():
    coverage = make_atlas(unmeasured=("Translation",), categories=("Knowledge",)).coverage.set_index("relation")
    assert coverage["measurable"].to_dict() == {"knowledge_relation": True, "translation_words": False}
    assert coverage.loc["translation_words", "pairs"] == 3


def test_it_names_itself():
    assert repr(make_atlas()) == "<Atlas of demo-135M: 4 relations, 30 layers x 9 heads, weights, maps>"


def test_save_and_load_give_the_same_atlas(tmp_path):
    atlas = with_pairs(make_atlas(n_layers=5, n_heads=3))
    assert atlas.pair_hits is not None
    save_atlas(atlas, tmp_path / "a")
    again = load_atlas(tmp_path / "a")
    pd.testing.assert_frame_equal(again.table, atlas.table)
    pd.testing.assert_frame_equal(again.pair_hits, atlas.pair_hits, check_dtype=False)
    assert again.relations == atlas.relations and again.label == "maps"
    files = ["atlas.json", "hits.parquet", "pairs.parquet", "scores.parquet"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    assert json.loads((tmp_path / "a" / "atlas.json").read_text("utf-8"))["schema"] == 5


def test_a_folder_without_its_manifest_is_no_atlas(tmp_path):
    save_atlas(make_atlas(), tmp_path)
    (tmp_path / "atlas.json").unlink()
    for folder, found in ((tmp_path, "no atlas.json"), (tmp_path / "no", "no such folder")):
        with pytest.raises(AtlasError) as caught:
            load_atlas(folder)
        assert str(caught.value) == f"{folder}: expected an atlas folder (made by `headatlas map`), found {found}."


def test_a_changed_or_missing_file_is_noticed(tmp_path):
    save_atlas(make_atlas(), tmp_path)
    scores = tmp_path / "scores.parquet"
    content = scores.read_bytes()
    scores.write_bytes(content[:-7])
    with pytest.raises(AtlasError, match="the file is not the one that was written with atlas"):
        load_atlas(tmp_path)
    scores.unlink()
    with pytest.raises(AtlasError, match=r"the manifest names 'scores.parquet', which is not there"):
        load_atlas(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a manifest with a schema version, found something else"),
        ("[]", "expected a manifest with a schema version, found something else"),
        ('{"schema": 99}', "expected schema 5, found 99. Use the headatlas version that wrote it."),
        ('{"schema": 5}', "expected the key 'tool', found none. Run the map again."),
    ],
)
def test_bad_manifests(tmp_path, text, message):
    (tmp_path / "atlas.json").write_text(text, "utf-8")
    with pytest.raises(AtlasError) as caught:
        load_atlas(tmp_path)
    assert message in str(caught.value)


def test_a_manifest_cannot_name_files_outside(tmp_path):
    save_atlas(make_atlas(), tmp_path)
    manifest = json.loads((tmp_path / "atlas.json").read_text("utf-8"))
    manifest["files"]["../../etc/passwd"] = {"sha256": "0" * 64}
    (tmp_path / "atlas.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(AtlasError, match="expected files of an atlas"):
        load_atlas(tmp_path)


def test_rows_in_any_order_and_no_row_twice_or_missing():
    table = make_atlas(n_layers=5, n_heads=3).table
    shuffled = dataset_from_table(table.sample(frac=1, random_state=0)).sortby("relation")
    assert shuffled["score"].equals(dataset_from_table(table).sortby("relation")["score"])
    for broken in (table.drop(index=17), pd.concat([table, table.loc[[17]]])):
        with pytest.raises(AtlasError, match="expected one row for each of 4 relations x 5 layers x 3 heads"):
            dataset_from_table(broken)


def test_suppression_that_was_not_measured_is_said():
    data = build_dataset([("r", "C", 0, 0)], {"score": np.zeros((1, 2, 3))})
    atlas = Atlas(data, make_atlas(categories=("C",), relations=("r",)).manifest)
    assert not atlas.has_suppression and atlas.table["suppression"].isna().all()
    with pytest.raises(AtlasError, match="came without suppression"):
        _ = atlas.suppression
    with pytest.raises(SettingsError, match="side: expected one of score, suppression, found 'x'"):
        atlas.share("x")
    with pytest.raises(SettingsError, match="side: expected one of score, suppression, found 'foo'"):
        atlas.chance("foo")


def test_an_unwritable_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(AtlasError, match="the atlas cannot be written"):
        save_atlas(make_atlas(), tmp_path / "file" / "atlas")


def test_chance_survives_a_folder_and_gives_q_values_over_all_heads(tmp_path):
    atlas = load_atlas(save_atlas(make_atlas(n_layers=5, n_heads=3, without_heads=(2,), chance=True), tmp_path))
    q_values = atlas.q_values()
    assert atlas.chance_exact().dtype == bool and np.isnan(q_values.values[:, 2]).all()
    p_values = np.sort(atlas.p_values().values[:, atlas.has_heads].ravel())
    n = len(p_values)
    steps = np.minimum.accumulate((p_values * n / np.arange(1, n + 1))[::-1])[::-1]
    assert np.allclose(np.sort(q_values.values[:, atlas.has_heads].ravel()), np.minimum(steps, 1))
    assert make_atlas().chance() is None and make_atlas().q_values() is None


def test_wilson_intervals():
    low, high = make_atlas(n_layers=5, n_heads=3, chance=True).interval()
    atlas = make_atlas(n_layers=5, n_heads=3, chance=True)
    for share, below, above in zip(atlas.scores.values.ravel(), low.values.ravel(), high.values.ravel(), strict=True):
        from scipy.stats import binomtest

        expected = binomtest(round(share * 40), 40).proportion_ci(method="wilson")
        assert (below, above) == pytest.approx((expected.low, expected.high))


def test_evidence_is_added_to_the_folder_and_checked(tmp_path):
    atlas = load_atlas(save_atlas(make_atlas(n_layers=5, n_heads=3), tmp_path))
    assert atlas.evidence("similar") is None
    place = {"layer": [1], "head": [2]}
    table = pd.DataFrame({**place, "rank": [0], "other_layer": [0], "other_head": [1], "similarity": [0.5]})
    told = pd.DataFrame({**place, "description": ["maps"], "rule": ["unclear"], "confidence": [1.0]})
    other = load_atlas(tmp_path)
    added = save_evidence(atlas, {"similar": (table, SIMILAR)})
    assert added.evidence("similar") is table and atlas.evidence("similar") is None
    both = save_evidence(other, {"descriptions": (told, DESCRIPTIONS)})
    assert both.evidence("similar").equals(table)
    again = load_atlas(tmp_path)
    assert again.evidence("similar").equals(table) and again.evidence("descriptions").equals(told)
    assert again.manifest.evidence == EvidenceFacts(similar=SIMILAR, descriptions=DESCRIPTIONS)
    moved = load_atlas(save_atlas(again, tmp_path / "moved"))
    assert moved.evidence("similar").equals(table)
    (tmp_path / "similar.parquet").write_bytes(b"x")
    with pytest.raises(
        AtlasError, match=r"not the one that was written with atlas\.json\. Run `headatlas salient` again"
    ):
        load_atlas(tmp_path).evidence("similar")
    with pytest.raises(SettingsError, match="expected one of salient"):
        atlas.with_evidence({"rumours": (table, SIMILAR)})
    save_atlas(make_atlas(n_layers=5, n_heads=3, name="another"), tmp_path)
    with pytest.raises(AtlasError, match="holds another atlas by now"):
        save_evidence(atlas, {"similar": (table, SIMILAR)})


def test_evidence_of_an_atlas_in_memory_is_saved_with_it(tmp_path):
    atlas = make_evidence(make_atlas(n_layers=5, n_heads=3))
    again = load_atlas(save_atlas(atlas, tmp_path))
    for name in EVIDENCE:
        assert again.evidence(name).equals(atlas.evidence(name)), name


def test_q_values_are_computed_once_and_cannot_be_changed(monkeypatch):
    from headatlas.atlas import value

    atlas = make_atlas(n_layers=5, n_heads=3, chance=True)
    first = atlas.q_values()
    monkeypatch.setattr(value, "benjamini_hochberg", None)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 0.5
    assert atlas.q_values().identical(first)


def test_an_atlas_does_not_change():
    atlas = make_atlas(5, 3)
    with pytest.raises(FrozenInstanceError):
        atlas.manifest = {}
    assert len({atlas, atlas, make_atlas(5, 3)}) == 2
