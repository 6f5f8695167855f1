"""HeadVis' metrics, on files made by hand as Neuronpedia's `compute-head-metrics.py` writes them."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from atlases import ATTENTION, make_atlas, make_attention, make_removal
from headatlas.analysis.card import head_card
from headatlas.analysis.headvis import compare_with_headvis
from headatlas.atlas import load_atlas, save_atlas
from headatlas.atlas.headvis import METRICS
from headatlas.cli import app
from headatlas.errors import AtlasError
from headatlas.measuring.import_headvis import import_headvis
from headatlas.reports.headvis import head_metrics, metrics_json, write_tree
from headatlas.reports.report import write_report

N_LAYERS, N_HEADS = 3, 2
RUN = {
    "model_name": "google/tiny",
    "dataset_name": "some/texts",
    "n_sequences": 40,
    "seq_len": 512,
    "dtype": "bfloat16",
}


def value(number, layer, head):
    """A different number for each metric and head; shares stay below 1."""
    large = list(METRICS)[number] not in ("self_attention_score", "prev_token_score", "induction_score")
    return round((number + 1) * 0.01 + layer * 0.1 + head * 0.05 + 7 * large, 4)


def matrices():
    return {
        name: [[value(number, layer, head) for head in range(N_HEADS)] for layer in range(N_LAYERS)]
        for number, name in enumerate(METRICS)
    }


def rows():
    return [
        {"layer": layer, "head": head, **{name: each[layer][head] for name, each in matrices().items()}}
        for layer in range(N_LAYERS)
        for head in range(N_HEADS)
    ]


def write(path, content):
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.fixture
def atlas():
    return make_atlas(N_LAYERS, N_HEADS)


def check(atlas):
    table = atlas.evidence("headvis")
    assert table.columns.tolist() == ["layer", "head", *METRICS] and len(table) == N_LAYERS * N_HEADS
    for row in table.to_dict("records"):
        for number, name in enumerate(METRICS):
            assert row[name] == value(number, row["layer"], row["head"])


def test_one_file_with_config_and_metrics(atlas, tmp_path):
    metrics = matrices() | {"counts": {"attention_positions": [9.0] * N_LAYERS}}
    config = RUN | {"actual_sequences_processed": 39}
    found = import_headvis(atlas, write(tmp_path / "tiny.json", {"config": config, "metrics": metrics}))
    check(found)
    facts = found.manifest.evidence.headvis
    assert (facts.model, facts.dataset, facts.sequences, facts.tokens) == ("google/tiny", "some/texts", 39, 512)
    assert facts.file == "tiny.json" and facts.metrics == tuple(METRICS)


def test_a_folder_with_an_entry_for_each_head(atlas, tmp_path):
    write(tmp_path / "scatter_data.json", rows()[::-1])
    write(tmp_path / "config.json", {"model_name": "google/tiny", "n_layers": N_LAYERS, "pipeline_config": RUN})
    found = import_headvis(atlas, tmp_path)
    check(found)
    facts = found.manifest.evidence.headvis
    assert (facts.model, facts.sequences, facts.tokens) == ("google/tiny", 40, 512)
    alone = import_headvis(atlas, write(tmp_path / "rows.json", rows()))
    check(alone)
    assert alone.manifest.evidence.headvis.model is None


def test_what_is_not_known_stays_empty(atlas, tmp_path):
    path = tmp_path / "tiny.json"
    metrics = {"prev_token_score": [[math.nan, 0.5], [None, 0.25], [0.0, 1.001]]}
    path.write_text(json.dumps({"config": None, "metrics": metrics}), "utf-8")
    found = import_headvis(atlas, path)
    assert found.manifest.evidence.headvis.metrics == ("prev_token_score",)
    assert found.evidence("headvis")["prev_token_score"].isna().tolist() == [True, False, True, False, False, False]
    card = head_card(found, "L0H1").as_dict()
    assert card["headvis"]["prev_token_score"] == 0.5 and card["headvis"]["qk_distance"] is None
    assert card["reading"] is None


def test_it_is_stored_and_shown(atlas, tmp_path):
    save_atlas(atlas, tmp_path / "atlas")
    file = write(tmp_path / "tiny.json", {"config": RUN | {"model_name": "a\x1b[31mb"}, "metrics": matrices()})
    done = CliRunner().invoke(app, ["import", str(file), "--into", str(tmp_path / "atlas")])
    assert done.exit_code == 0 and "6 metrics of a\\x1b[31mb on some/texts are now evidence" in done.stderr
    check(load_atlas(tmp_path / "atlas"))
    shown = CliRunner().invoke(app, ["head", str(tmp_path / "atlas"), "L2H1"]).stdout
    assert "prev_token_score 0.27" in " ".join(shown.split()) and "entropy in nats" in shown


BAD = {
    "no JSON": ("{", "expected JSON, found something else"),
    "deep": ("[" * 100_000, "expected JSON, found something else"),
    "text": (json.dumps("x"), "expected an object with 'config' and 'metrics' or a list of heads, found str"),
    "nothing": (json.dumps({"config": RUN}), "expected 'metrics' of each head, found none"),
    "no metric": (json.dumps({"metrics": {"other": []}}), "expected at least one of self_attention_score, "),
    "a number": (
        json.dumps({"metrics": {"qk_distance": 3}}),
        "expected a list of heads for each layer in 'qk_distance'",
    ),
    "layers": (
        json.dumps({"metrics": {"qk_distance": [[1, 2]]}}),
        r"expected 3 layers x 2 heads as in demo-135M, found 1 x 2 in 'qk_distance'\. Is this the same model\?",
    ),
    "heads": (json.dumps({"metrics": {"qk_distance": [[1, 2], [1], [1, 2]]}}), "found 3 x 1 or 2 in 'qk_distance'"),
    "share": (
        json.dumps({"metrics": {"prev_token_score": [[0, 0], [0, 1.2], [0, 0]]}}),
        "L1H1: expected a share from 0 to 1 for 'prev_token_score', found 1.2",
    ),
    "boolean": (json.dumps({"metrics": {"qk_distance": [[0, 0], [0, 0], [True, 0]]}}), "L2H0: expected a number"),
    "infinite": ('{"metrics": {"pattern_entropy": [[0, 0], [0, 0], [0, Infinity]]}}', "L2H1: expected a number that"),
    "huge": ('{"metrics": {"pattern_entropy": [[0, 0], [0, 0], [0, 1' + "0" * 400 + "]]}}", "L2H1: expected a number"),
    "negative": (
        json.dumps({"metrics": {"qk_distance": [[0, -1], [0, 0], [0, 0]]}}),
        "L0H1: expected a number that is",
    ),
    "word": (json.dumps([{"layer": 0, "head": 0, "qk_distance": "x\x1b"}]), r"L0H0: .*, found 'x\\x1b'"),
    "entry": (json.dumps([3]), "entry 0: expected an object with 'layer' and 'head'"),
    "layer": (
        json.dumps([{"layer": 3, "head": 0}]),
        "entry 0: expected a 'layer' from 0 to 2 as in demo-135M, found 3",
    ),
    "head": (json.dumps([{"layer": 0, "head": True}]), "entry 0: expected a 'head' from 0 to 1 as in .*, found True"),
    "twice": (json.dumps([rows()[0]] * 2), "entry 1: expected each head once, found L0H0 again"),
    "missing": (json.dumps(rows()[:-1]), "expected every head of demo-135M, found no L2H1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_sentence(atlas, tmp_path, case):
    content, message = BAD[case]
    (tmp_path / "m.json").write_text(content, "utf-8")
    with pytest.raises(AtlasError, match=message) as caught:
        import_headvis(atlas, tmp_path / "m.json")
    assert str(caught.value).startswith(str(tmp_path / "m.json")) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(atlas, tmp_path):
    with pytest.raises(AtlasError, match=r"scatter_data.json: expected metrics of HeadVis, found nothing there\."):
        import_headvis(atlas, tmp_path)


def test_layers_without_heads_may_be_missing(tmp_path):
    atlas = make_atlas(N_LAYERS, N_HEADS, without_heads=(1,))
    kept = [row for row in rows() if row["layer"] != 1]
    found = import_headvis(atlas, write(tmp_path / "scatter_data.json", kept))
    assert found.evidence("headvis")["layer"].tolist() == [0, 0, 2, 2]
    whole = import_headvis(atlas, write(tmp_path / "m.json", {"metrics": matrices()}))
    assert whole.evidence("headvis").equals(found.evidence("headvis"))
    assert {
        row["layer"]
        for row in json.loads(write_tree(found, tmp_path / "o").joinpath("scatter_data.json").read_text("utf-8"))
    } == {0, 2}


def test_ours_are_exported_under_names_of_their_own(atlas, tmp_path):
    read = make_removal(make_attention(atlas, {"induction": {(1, 1): 0.9}}), {(1, 1): 0.4})
    content = json.loads(metrics_json(read))
    metrics = content["metrics"]
    assert metrics["headatlas_reads_induction"] == [[0.05, 0.05], [0.05, 0.9], [0.05, 0.05]]
    assert metrics["headatlas_copying_lost"] == [[None, None], [None, 0.4], [None, None]]
    name = atlas.relations[0]
    assert metrics[f"headatlas_score_{name}"] == atlas.share("score").values[0].round(6).tolist()
    assert not set(metrics) & set(METRICS)
    assert content["config"]["model_name"] == "demo-135M"
    folder = write_tree(read, tmp_path / "tree")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    scatter = json.loads((folder / "scatter_data.json").read_text("utf-8"))
    assert config["metrics"] == list(metrics) == list(config["metric_descriptions"])
    assert config["heads"] == [[row["layer"], row["head"]] for row in scatter]
    for row in scatter:
        assert all(row[name] == metrics[name][row["layer"]][row["head"]] for name in metrics)
    assert json.loads((folder / "server_config.json").read_text("utf-8")) == {}
    assert json.loads((folder / "attributions" / "manifest.json").read_text("utf-8")) == {}


def test_imported_metrics_are_handed_on_as_they_came(atlas, tmp_path):
    found = import_headvis(atlas, write(tmp_path / "m.json", {"config": RUN, "metrics": matrices()}))
    assert list(head_metrics(found))[: len(METRICS)] == list(METRICS)
    for number, path in enumerate((write_tree(found, tmp_path / "tree"), tmp_path / "again.json")):
        if number:
            path.write_text(metrics_json(found), "utf-8")
        again = import_headvis(atlas, path)
        check(again)
        facts = again.manifest.evidence.headvis
        assert (facts.model, facts.sequences, facts.tokens) == ("google/tiny", 40, 512)


def test_agreement_with_what_was_measured_here(atlas, tmp_path):
    read = make_attention(atlas)
    table = read.evidence("attention")
    on_text = table[table["input"] == "random"].assign(input="text")
    read = read.with_evidence({"attention": (pd.concat([table, on_text], ignore_index=True), ATTENTION)})
    assert compare_with_headvis(read) == {}
    metrics = matrices() | {"induction_score": [[0.5] * N_HEADS] * N_LAYERS}
    found = import_headvis(read, write(tmp_path / "m.json", {"metrics": metrics}))
    shares = on_text[on_text["behaviour"] == "previous"]["value"].to_numpy()
    expected = np.corrcoef(shares, np.ravel(metrics["prev_token_score"]))[0, 1]
    agreement = compare_with_headvis(found)
    assert agreement["previous"] == pytest.approx(expected) and set(agreement) == {"previous", "self"}
    assert f"definitions are others: previous token {expected:.2f}, self " in write_report(found)
    assert "HeadVis" not in write_report(read)


def test_the_commands_and_what_they_refuse(atlas, tmp_path):
    save_atlas(atlas, tmp_path / "atlas")
    run = CliRunner().invoke
    export = ["export", str(tmp_path / "atlas"), "--format"]
    done = run(app, [*export, "headvis", "-o", str(tmp_path / "tree")])
    assert done.exit_code == 0 and (tmp_path / "tree" / "scatter_data.json").is_file()
    assert json.loads(run(app, [*export, "headvis-json"]).stdout)["metrics"]
    for arguments, message in (
        ([*export, "headvis"], "output: expected a folder for HeadVis' files, found none"),
        (["import", "x.json"], "output, measure: expected both for scores, or --into"),
        (["import", "x.json", "--into", str(tmp_path / "atlas"), "--overwrite"], "into: HeadVis' metrics become"),
        (["import", "x.json", "--into", str(tmp_path / "atlas")], "x.json: expected metrics of HeadVis, found nothing"),
    ):
        refused = run(app, arguments)
        assert refused.exit_code == 2 and message in refused.stderr.replace("\n", " "), arguments
