"""From a folder of weights to an atlas: planted heads, the plain loop, laws, and what goes on after an interruption."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import headatlas
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.atlas import Manifest
from headatlas.errors import AtlasError, RelationError, SettingsError
from headatlas.measuring import map as survey
from headatlas.measuring.run_folder import RunFolder
from headatlas.relations import Relation
from headatlas.settings import SCORING_VERSION
from interrupts import interrupt_at_layer
from models import make_model, save_model
from planted import HEAD, LAYER, N_PAIRS, PAIRS, WORDS, make_planted, write_relation
from reference import plain_loop


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted") / "tiny")


@pytest.fixture(scope="module")
def relation(tmp_path_factory):
    return write_relation(tmp_path_factory.mktemp("relation") / "planted.json")


def some_relations():
    return [
        Relation("there", tuple((a, b) for a, b in PAIRS), "Planted", k=1),
        Relation("back", tuple((b, a) for a, b in PAIRS), "Planted", k=3),
        Relation("same", tuple((word, word) for word in WORDS), "Copy", k="copying"),
        Relation("few", tuple((a, b) for a, b in PAIRS[:29]), "Rare"),
    ]


def test_the_planted_head_scores_1_there_and_nowhere_else(planted, relation):
    atlas = headatlas.map_heads(planted, relations=relation, profile="maps")
    hits = atlas.data["hits"].values[0]
    assert hits[LAYER, HEAD] == N_PAIRS
    hits[LAYER, HEAD] = 0
    assert hits.max() < N_PAIRS / 5
    assert not atlas.data["suppression_hits"].values[0, LAYER, HEAD]
    rows = atlas.pair_hits.query(f"layer == {LAYER} and head == {HEAD} and side == 'promoted'")
    assert rows[["source", "target"]].to_numpy().tolist() == PAIRS
    assert [WORDS[token - 1] for token in rows["target_id"]] == [target for _, target in PAIRS]


def test_its_negative_suppresses(tmp_path, relation):
    atlas = headatlas.map_heads(make_planted(tmp_path / "tiny", sign=-1), relations=[relation], profile="maps")
    assert atlas.suppression.values[0, LAYER, HEAD] == 1 and atlas.scores.values[0, LAYER, HEAD] == 0


@pytest.mark.parametrize("case", ["llama", "llama-tied", "gpt2", "gpt_neox", "phi"])
@pytest.mark.parametrize("contextualize", ["first-mlp", "embedding"])
def test_every_score_is_the_plain_loop_s(tmp_path, case, contextualize):
    folder = save_model(make_model(case), tmp_path / "tiny", WORDS)
    atlas = headatlas.map_heads(folder, relations=some_relations(), contextualize=contextualize, k=5, profile="maps")
    model = open_model(open_checkpoint(folder))
    token = {word: number for number, word in enumerate(WORDS, start=1)}
    for relation in some_relations()[:3]:
        k = {"copying": 1, "standard": 5}.get(relation.k, relation.k)
        sources, targets = (torch.tensor([token[pair[side]] for pair in relation.pairs]) for side in (0, 1))
        for layer in range(model.n_layers):
            x = model.W_E(sources)
            x = model.first_mlp(x) if layer and contextualize == "first-mlp" else x
            W_V, W_O = model.values_and_outputs(layer)
            for head in range(model.n_heads):
                W_V_head = W_V[model.kv_head_of(layer)[head]]
                promoted, suppressed = plain_loop(
                    x.double(),
                    W_V_head.double(),
                    W_O[head].double(),
                    model.W_U().double(),
                    torch.arange(len(x)),
                    targets,
                    k,
                )
                found = atlas.data.sel(relation=relation.name, layer=layer, head=head)
                assert (found["hits"], found["suppression_hits"]) == (promoted.sum(), suppressed.sum())
    assert atlas.data["hits"].sum() > 0 and atlas.data["suppression_hits"].sum() > 0


def test_what_is_not_measurable_is_counted_and_not_scored(planted):
    atlas = headatlas.map_heads(planted, relations=some_relations(), profile="maps")
    assert atlas.relations == ["same", "back", "there"]
    coverage = atlas.coverage.set_index("relation")
    assert coverage.loc["few", ["in_file", "pairs", "measurable"]].tolist() == [29, 29, False]
    assert headatlas.classify(atlas).unmeasured == ("Rare",)


def test_the_manifest_says_what_was_measured(planted, relation):
    atlas = headatlas.map_heads(planted, relations=relation, k=7, threshold="0.2", profile="maps")
    manifest = atlas.manifest
    assert manifest.label == "maps, modified: k=7, threshold=0.2" and manifest.measure == "weights"
    assert manifest.model.fingerprint == open_model(open_checkpoint(planted)).fingerprint()
    assert vars(manifest.settings) == {
        "k": 7, "k_copying": 1, "threshold": "0.2", "contextualize": "first-mlp", "profile": "maps", "prefix": None,
        "rule": "plain", "min_pairs": 30, "value_bias": False, "attention_gain": False, "final_norm_gain": False,
        "input_norm_gain": False,
    }  # fmt: skip
    assert manifest.relations.set == "the user's" and len(manifest.relations.hash) == 64
    assert set(manifest.packages) > {"torch", "transformers"}
    assert Manifest.from_json(manifest.to_json(), "atlas.json") == manifest


def test_relations_can_be_added(planted, relation):
    atlas = headatlas.map_heads(planted, relations=some_relations()[:2], add_relations=relation, profile="maps")
    assert sorted(atlas.relations) == ["back", "planted", "there"]


def test_no_measurable_relation_is_refused(planted):
    with pytest.raises(RelationError) as caught:
        headatlas.map_heads(planted, relations=some_relations()[3:], profile="maps")
    assert str(caught.value) == (
        "relations: expected at least one with 30 pairs of which both words are one token of this model, found none "
        "(most: few with 29 of 29). `headatlas relations --check FILE --model MODEL` says which words drop out."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device: expected cpu, cuda or cuda:N, found 'tpu'."),
        ({"device": "mps"}, "device: mps cannot compute in float64, which decides close calls. Use --device cpu."),
        ({"threads": 0}, "threads: expected a whole number of at least 1, found 0."),
    ],
)
def test_bad_options(planted, relation, options, message):
    with pytest.raises(SettingsError) as caught:
        headatlas.map_heads(planted, relations=relation, **options, profile="maps")
    assert str(caught.value) == message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said(planted, relation):
    with pytest.raises(SettingsError, match=r"device: expected a CUDA device for 'cuda', found none"):
        headatlas.map_heads(planted, relations=relation, device="cuda", profile="maps")


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_an_interrupted_run_goes_on_and_gives_the_same_atlas(planted, tmp_path, monkeypatch, n_layers):
    whole = headatlas.map_heads(planted, relations=some_relations(), profile="maps")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_at_layer(patch, n_layers)
        with pytest.raises(KeyboardInterrupt):
            headatlas.map_heads(planted, out, relations=some_relations(), self_check=False, profile="maps")
    assert [path.name for path in out.iterdir()] == [".unfinished"] * bool(n_layers)
    with pytest.raises(AtlasError, match=r"found no atlas.json"):
        headatlas.load_atlas(out)
    atlas = headatlas.map_heads(planted, out, relations=some_relations(), profile="maps")
    assert atlas.manifest.run.layers_from_earlier_run == n_layers
    assert atlas.table.equals(whole.table) and headatlas.load_atlas(out).table.equals(whole.table)
    assert not (out / ".unfinished").exists()


def test_a_damaged_layer_is_measured_again(planted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_at_layer(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            headatlas.map_heads(planted, out, relations=some_relations(), self_check=False, profile="maps")
    layer = out / ".unfinished" / "layer-0001.npz"
    layer.write_bytes(layer.read_bytes()[:-40])
    atlas = headatlas.map_heads(planted, out, relations=some_relations(), profile="maps")
    assert atlas.manifest.run.layers_from_earlier_run == 1
    assert atlas.scores.values[2, LAYER, HEAD] == 1


def test_the_same_again_is_confirmed_without_measuring(planted, tmp_path, relation, monkeypatch):
    first = headatlas.map_heads(planted, tmp_path / "out", relations=relation, profile="maps")
    monkeypatch.setattr(survey, "_measure", None)
    again = headatlas.map_heads(planted, tmp_path / "out", relations=relation, profile="maps")
    assert again.table.equals(first.table)
    assert not (tmp_path / "out" / ".unfinished").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"k": 3}, "an atlas with k=10 where this run has 3"),
        ({"threshold": "0.3"}, "an atlas with threshold=0.15 where this run has 0.3"),
        ({"relations": some_relations()[:1]}, "an atlas with other relations"),
        ({"model": "other"}, "an atlas with another model"),
    ],
)
def test_another_map_in_the_folder_is_refused_unless_overwritten(planted, tmp_path, relation, options, what):
    out = tmp_path / "out"
    headatlas.map_heads(planted, out, relations=relation, profile="maps")
    (out / "mine.txt").write_text("kept", "utf-8")
    if "model" in options:
        options = {"model": save_model(make_model("llama"), tmp_path / "other", WORDS)}
    call = {"model": planted, "output": out, "relations": relation, "profile": "maps"} | options
    with pytest.raises(AtlasError) as caught:
        headatlas.map_heads(**call)
    assert str(caught.value) == (f"{out}: holds {what}. Choose another folder, or replace it with --overwrite.")
    assert headatlas.load_atlas(out).label == "maps"
    atlas = headatlas.map_heads(**call, overwrite=True)
    assert headatlas.load_atlas(out).table.equals(atlas.table)
    assert (out / "mine.txt").read_text("utf-8") == "kept"


@pytest.mark.parametrize("finished", [True, False])
def test_scores_of_another_version_are_never_mixed(planted, tmp_path, relation, monkeypatch, finished):
    out, call = tmp_path / "out", {"relations": relation, "profile": "maps"}
    with monkeypatch.context() as old:
        old.setattr(survey, "SCORING_VERSION", 1)
        if not finished:
            old.setattr(RunFolder, "finish", lambda *_: 1 / 0)
        with nullcontext() if finished else pytest.raises(ZeroDivisionError):
            headatlas.map_heads(planted, out, **call)
    with pytest.raises(AtlasError) as caught:
        headatlas.map_heads(planted, out, **call)
    assert str(caught.value) == (
        f"{out}: holds {'an atlas' if finished else 'an unfinished run'} with scores of another version of the scoring "
        f"(1; this headatlas has {SCORING_VERSION}), which are never mixed. Choose another folder, or replace it with "
        f"--overwrite."
    )
    assert headatlas.map_heads(planted, out, **call, overwrite=True).manifest.run.layers_from_earlier_run == 0


def test_progress_is_reported(planted, tmp_path, relation):
    reported = []
    headatlas.map_heads(planted, relations=relation, progress=lambda *what: reported.append(what), profile="maps")
    layers = [(done, of) for what, done, of in reported if what == "layers"]
    assert layers == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_threads_change_nothing(planted):
    tables = [
        headatlas.map_heads(planted, relations=some_relations(), threads=threads, profile="maps").table
        for threads in (1, 3)
    ]
    assert tables[0].equals(tables[1])


def test_permuting_words_permutes_nothing_but_pairs(planted):
    order = np.random.default_rng(0).permutation(N_PAIRS)
    there = some_relations()[0]
    shuffled = Relation(there.name, tuple(there.pairs[number] for number in order), there.category, there.k)
    tables = [
        headatlas.map_heads(planted, relations=[relation], profile="maps").table for relation in (there, shuffled)
    ]
    assert tables[0].equals(tables[1])


def test_chance_is_measured_unless_it_is_not_wanted(planted, tmp_path):
    relations = some_relations()
    atlas = headatlas.map_heads(planted, relations=relations, profile="maps")
    place = dict(relation=relations[0].name, layer=LAYER, head=HEAD)
    assert float(atlas.scores.sel(**place)) == 1 and float(atlas.p_values().sel(**place)) < 1e-6
    assert float(atlas.chance().sel(**place)) < 0.2 and bool(atlas.chance_exact().sel(**place))
    without = headatlas.map_heads(planted, tmp_path / "without", relations=relations, chance=False, profile="maps")
    assert without.chance() is None and without.data["hits"].equals(atlas.data["hits"])
    with pytest.raises(AtlasError, match="other settings"):
        headatlas.map_heads(planted, tmp_path / "without", relations=relations, profile="maps")


def test_ranks_of_hits_count_the_tokens_before_the_target(planted):
    atlas = headatlas.map_heads(planted, relations=some_relations(), profile="maps")
    hits = atlas.pair_hits
    assert (hits["rank"] >= 0).all() and (hits["rank"] < 10).all()
    assert len(set(hits["rank"])) > 1
