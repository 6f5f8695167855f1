"""What `validate` finds: a planted head, the same again, and what it refuses."""

import json

import numpy as np
import pytest
import torch

import headatlas
from headatlas.analysis.correlations import ALL, correlate, known_correlations, mean_over_relations
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.atlas.evidence import TOTAL_EFFECT, Correlation, GroupFacts
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring import validate as validation
from headatlas.measuring.running.contexts import Contexts, load_templates, make_contexts
from headatlas.measuring.running.head_ranks import HeadRanks
from headatlas.measuring.running.model import RunningModel
from models import make_model, save_model
from planted import HEAD, LAYER, N_PAIRS, WORDS, make_planted, plant_values, write_relation

TEMPLATE = 'templates = ["baz {source} bez", "cab {source} cob coc"]\n'


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a planted model, its atlas, its relation and templates of its words."""
    place = tmp_path_factory.mktemp("planted")
    make_planted(place / "model")
    plant_values(place / "model")
    write_relation(place / "r.json")
    (place / "t.toml").write_text(TEMPLATE, "utf-8")
    headatlas.map_heads(place / "model", place / "atlas", relations=place / "r.json", profile="maps")
    return place


def validate(place, **options):
    options = {"add_relations": place / "r.json", "templates": place / "t.toml"} | options
    atlas = headatlas.load_atlas(place / "atlas")
    atlas = headatlas.validate_atlas(atlas, **options)
    return atlas, atlas.evidence("validation")


@pytest.mark.usefixtures("rendered")
def test_the_planted_head_is_found_where_attention_is_on_the_source(planted):
    _, table = validate(planted, pairs=None, effects=0)
    assert set(table["tokens"]) == {"one"} and set(table["condition"]) == set(validation.CONDITIONS)
    assert len(table) == 2 * 3 * 4 and (table["pairs"] == N_PAIRS).all() and (table["prompts"] == 2 * N_PAIRS).all()
    fixed = table[table["condition"] == "attention-fixed"].set_index(["layer", "head"])["score"]
    assert fixed[LAYER, HEAD] == 1.0
    # Head 3 reads the same values, but its own W_O leads elsewhere.
    assert (fixed.drop((LAYER, HEAD)) < 0.2).all()
    assert (table["score"] == table["hits"] / table["prompts"]).all()
    again = headatlas.load_atlas(planted / "atlas")
    assert again.evidence("validation").equals(table)
    facts = again.manifest.evidence.validation
    assert facts.left_out == () and facts.prompts == 2 * N_PAIRS and len(facts.groups) == 1
    assert (planted / "atlas" / "validation.png").stat().st_size > 10_000
    assert (planted / "atlas" / "validation.svg").exists()
    assert not (planted / "atlas" / validation.PARTS).exists()


def test_hits_are_those_of_the_plain_loop(planted):
    _, table = validate(planted, pairs=11, seed=3)
    opened = open_model(open_checkpoint(planted / "model"))
    tokenizer = open_checkpoint(planted / "model").load_tokenizer()
    relations = [
        each for each in headatlas.measuring.session.relations_of(
            headatlas.load_atlas(planted / "atlas"), tokenizer, opened.d_vocab, None, planted / "r.json"
        )[0].values()
    ]  # fmt: skip
    contexts = make_contexts(relations, tokenizer, opened.d_vocab, load_templates(planted / "t.toml"), 11, 3)
    running, W_U = RunningModel(opened), opened.W_U()
    expected = {condition: np.zeros((3, 4), int) for condition in validation.CONDITIONS}
    for prompt, target, k in zip(contexts.prompt, contexts.target_ids, contexts.k, strict=True):
        watched = running.watch(torch.tensor([contexts.prompts[prompt]]), torch.tensor([contexts.source[prompt]]))
        for layer in range(3):
            W_O = opened.values_and_outputs(layer)[1]
            fixed = watched.values[layer][0][list(opened.kv_head_of(layer))]
            for condition, z in zip(validation.CONDITIONS, (fixed, watched.outputs[layer][0]), strict=True):
                logits = torch.einsum("hd,hdm->hm", z, W_O) @ W_U.T
                others = (logits >= logits[:, [target]]).sum(1) - 1
                expected[condition][layer] += (others < k).numpy()
    for condition, counts in expected.items():
        found = table[table["condition"] == condition]["hits"].to_numpy().reshape(3, 4)
        assert (found == counts).all() and counts.sum()


def test_the_same_seed_gives_the_same_and_parts_change_nothing(planted, monkeypatch):
    _, table = validate(planted, pairs=12, seed=1)
    monkeypatch.setattr(validation, "MOST_PROMPTS", 16)
    monkeypatch.setattr(validation, "MOST_NUMBERS", 1)
    assert validate(planted, pairs=12, seed=1, threads=2)[1].equals(table)
    assert not validate(planted, pairs=12, seed=2)[1].equals(table)


def test_a_refused_validation_leaves_nothing(planted):
    with pytest.raises(SettingsError):
        validate(planted, relations=["r"], templates=planted / "nothing.toml")
    (planted / "odd.toml").write_text('templates = ["xyzzy {source} quux"]', "utf-8")
    with pytest.raises(HeadatlasError):
        validate(planted, device="cuda:99")
    assert not (planted / "atlas" / validation.PARTS).exists()


def test_an_interrupted_validation_goes_on(planted, monkeypatch):
    _, whole = validate(planted, pairs=20)
    monkeypatch.setattr(validation, "MOST_NUMBERS", 1)
    measure, done = validation._measure, []

    def stops(*args):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(args[2])
        return measure(*args)

    monkeypatch.setattr(validation, "_measure", stops)
    with pytest.raises(KeyboardInterrupt):
        validate(planted, pairs=20)
    parts = planted / "atlas" / validation.PARTS
    assert [path.name for path in parts.glob("*.npz")] == ["part-00000.npz"]

    def counted(*args):
        done.append(args[2])
        return measure(*args)

    monkeypatch.setattr(validation, "_measure", counted)
    assert validate(planted, pairs=20)[1].equals(whole)
    assert done == [0, 16, 32] and not parts.exists()


def test_threads_of_the_process_stay_as_they_were(planted):
    before = torch.get_num_threads()
    validate(planted, pairs=3, threads=before + 1)
    assert torch.get_num_threads() == before


def test_another_model_is_refused(planted, tmp_path):
    save_model(make_model("llama", seed=5), tmp_path / "other", WORDS)
    with pytest.raises(AtlasError, match=r"expected the model of .*atlas \(fingerprint .*found another .*--model"):
        validate(planted, model=tmp_path / "other")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"add_relations": None}, "are not those of a built-in relation. Name the file .*--add-relations"),
        ({"relations": ["nothing"]}, "relation: expected one of r, found 'nothing'"),
        ({"pairs": 1}, "pairs: expected a whole number of at least 2, found 1"),
        ({"device": "tpu"}, "device: expected cpu"),
        ({"templates": "missing.toml"}, "missing.toml: cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(planted, options, message):
    with pytest.raises(SettingsError, match=message):
        validate(planted, **options)


@pytest.mark.parametrize(
    "text", ["no mark", "{source} first", "last {source}", "a {source} b {source} c", " a {source} b"]
)
def test_templates_have_words_on_both_sides(tmp_path, text):
    path = tmp_path / "t.toml"
    path.write_text(f"templates = {json.dumps([text])}", "utf-8")
    with pytest.raises(SettingsError, match=r"expected texts with \{source\} once"):
        load_templates(path)


def test_the_packages_own_templates_are_read():
    assert len(load_templates()) >= 3


def test_correlations_by_hand():
    from atlases import make_atlas, make_evidence

    atlas = make_evidence(make_atlas(4, 5))
    table = atlas.evidence("validation").copy()
    at = {name: place for place, name in enumerate(atlas.relations)}
    static = np.array([
        atlas.scores.values[at[row.relation], row.layer, row.head] for row in table.itertuples()
    ])  # fmt: skip
    table["score"] = np.where(table["condition"] == "in-context", -static, static * 2 + 1)
    rows = correlate(atlas, table)
    assert len(rows) == 2 * 2 * 2 * (4 + 1)
    for row in rows:
        if row.side == "score":
            expected = -1 if row.condition == "in-context" else 1
            assert row.pearson == pytest.approx(expected) and row.spearman == pytest.approx(expected)
            assert row.points == (80 if row.relation == ALL else 20)
    table["score"] = 0.5
    rows = correlate(atlas, table)
    assert all(row.pearson is None for row in rows if row.side == "score")
    means = mean_over_relations(rows)
    assert means[0].pearson is None and means[0].relations == 0
    assert sum(row.side == "suppression" for row in means) == 4


def test_ranks_of_outputs_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    W_U, W_O = (torch.randn(*shape, generator=generator) for shape in ((5003, 13), (3, 7, 13)))
    z = torch.randn(11, 3, 7, generator=generator)
    row, targets = torch.arange(22) % 11, torch.randint(5003, (22,), generator=generator)
    k = torch.full((22,), 900)
    found = HeadRanks(W_U, row, targets, k, threads=2).layer(z, W_O)
    logits = torch.einsum("nhd,hdm->hnm", z.double(), W_O.double()) @ W_U.T.double()
    for sign, hits in zip((1, -1), found, strict=True):
        signed = (logits * sign)[:, row]
        own = signed.gather(2, targets.expand(3, -1)[..., None])
        assert torch.equal(hits, (signed >= own).sum(2) - 1 < k) and hits.any() and not hits.all()


def test_sources_of_several_tokens_are_read_at_their_last(tmp_path):
    """With a tokenizer that splits long words."""
    from gguf_models import make_model as make_gguf_model
    from gguf_models import write

    checkpoint = open_checkpoint(write(make_gguf_model("llama"), "llama", tmp_path / "m.gguf"))
    tokenizer = checkpoint.load_tokenizer()
    pairs = tuple((word, "abc") for word in ("ab", "a", *(one + two for one in "defgh" for two in "xyz")))
    relation = headatlas.Relation("long", pairs)
    from headatlas.relations import encode_relations
    from headatlas.settings import Settings

    encoded = encode_relations([relation], tokenizer, 101, Settings())
    contexts = make_contexts(encoded, tokenizer, 101, ["ab {source} a"], None, 0)
    assert [(group.tokens, group.pairs) for group in contexts.groups] == [("one", 2), ("several", 15)]
    ids = {tuple(prompt): source for prompt, source in zip(contexts.prompts, contexts.source, strict=True)}
    whole = tuple(tokenizer("ab dx a", add_special_tokens=False)["input_ids"])
    assert tokenizer.convert_ids_to_tokens(whole[ids[whole]]) == "x"
    few = make_contexts(encoded, tokenizer, 101, ["ab {source} a"], 4, 0)
    assert [(group.tokens, group.pairs) for group in few.groups] == [("one", 2)]


def test_imported_scores_have_no_model():
    from atlases import make_atlas, with_manifest

    atlas = with_manifest(make_atlas(3, 4), measure="in-context")
    with pytest.raises(HeadatlasError, match="expected an atlas of a model's weights, found imported scores"):
        headatlas.validate_atlas(atlas)


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2"])
def test_total_effects_are_those_of_one_head_after_the_other(tmp_path, case):
    from headatlas.measuring.running.effects import head_effects

    running = RunningModel(open_model(open_checkpoint(save_model(make_model(case), tmp_path))))
    ids, source = torch.tensor([[5, 17, 3, 88, 41]]), torch.tensor([2])
    watched, base = running.watch(ids, source), running.last_logits(ids)
    found = {
        head: row
        for heads, change in head_effects(running, ids, source)
        for head, row in zip(heads, change, strict=True)
    }
    assert len(found) == len(running.layers) * running.heads.n_heads
    for (layer, head), change in found.items():
        value = watched.values[layer][0, list(running.heads.kv_head_of(layer))]
        with running.without({layer: [head]}, {layer: value}):
            expected = running.last_logits(ids) - base
        assert torch.allclose(change, expected[0], atol=1e-4 * float(base.abs().max()))
    assert max(float(change.abs().max()) for change in found.values()) > 1e-2 * float(base.abs().max())


def test_total_effects_go_into_the_table(planted):
    atlas, table = validate(planted, pairs=8, effects=4)
    rows = table[table["condition"] == TOTAL_EFFECT]
    assert len(rows) == 3 * 4 and (rows["prompts"] == 4).all() and (rows["pairs"] == 4).all()
    assert (rows["score"] == rows["hits"] / 4).all()
    assert atlas.manifest.evidence.validation.effects == 4
    assert validate(planted, pairs=8, effects=4)[1].equals(table)
    assert TOTAL_EFFECT not in set(validate(planted, pairs=8, effects=0)[1]["condition"])
    with pytest.raises(SettingsError, match="effects: expected a whole number of at least 0, found -1"):
        validate(planted, effects=-1)


def test_scores_are_compared_with_the_same_terms(planted, tmp_path):
    """Hits of the running heads with the atlas's terms, with none, and with all; equal ones are counted once."""
    atlas, _ = validate(planted, pairs=8, effects=0)
    found = {row.counted for row in known_correlations(atlas, None)}
    assert found == {"own", "all"}
    plain = {row.counted for row in known_correlations(atlas)}
    assert plain == {"own"}
    headatlas.map_heads(
        planted / "model", tmp_path / "gains", relations=planted / "r.json", final_norm_gain=True, profile="maps"
    )
    (tmp_path / "r.json").write_bytes((planted / "r.json").read_bytes())
    (tmp_path / "t.toml").write_bytes((planted / "t.toml").read_bytes())
    (tmp_path / "gains").rename(tmp_path / "atlas")
    atlas, _ = validate(tmp_path, pairs=8, effects=0)
    assert {row.counted for row in known_correlations(atlas, None)} == {"own", "none", "all"}


def test_pooled_correlations_have_a_point_per_text_and_means_an_interval(planted):
    atlas, _ = validate(planted, pairs=8, effects=0)
    for row in known_correlations(atlas):
        assert (row.pooled is None) == (row.pearson is None)
    rows = [Correlation("score", "in-context", "own", "one", name, 8, 12, value, None, value / 2)
            for name, value in (("a", 0.1), ("b", 0.5), ("c", 0.9))]  # fmt: skip
    (mean,) = mean_over_relations(rows)
    assert mean.pearson.mean == pytest.approx(0.5) and 0.1 <= mean.pearson.low < 0.5 < mean.pearson.high <= 0.9
    assert mean.pooled.mean == pytest.approx(0.25) and mean.spearman is None
    assert mean_over_relations(rows) == [mean]
    (one,) = mean_over_relations(rows[:1])
    assert one.pearson.low is None and one.pearson.mean == pytest.approx(0.1)


def test_the_pooled_correlation_by_hand():
    from atlases import make_atlas, make_evidence

    atlas = make_evidence(make_atlas(4, 5))
    table = atlas.evidence("validation")
    generator = np.random.default_rng(0)
    first = atlas.relations[0]
    shares = {name: generator.random((3, 20)) for name in atlas.relations}
    rows = correlate(atlas, table, by_text=lambda side, condition, tokens, name: shares[name])
    row = next(row for row in rows if row.relation == first and row.side == "score")
    static = np.concatenate([atlas.scores.sel(relation=first).values.ravel()] * 3)
    assert row.pooled == pytest.approx(np.corrcoef(static, shares[first].ravel())[0, 1])
    whole = next(row for row in rows if row.relation == ALL and row.side == "score")
    static = np.concatenate([np.tile(atlas.scores.sel(relation=name).values.ravel(), 3) for name in atlas.relations])
    other = np.concatenate([shares[name].ravel() for name in atlas.relations])
    assert whole.pooled == pytest.approx(np.corrcoef(static, other)[0, 1])


def test_hits_of_total_effects_are_those_of_a_plain_loop(tmp_path):
    from headatlas.measuring.running import effects

    running = RunningModel(open_model(open_checkpoint(save_model(make_model("llama"), tmp_path))))
    prompts, source = [(5, 17, 3), (7, 17, 3), (5, 9, 17, 3), (7, 9, 17, 3)], [0, 0, 0, 0]
    group = [GroupFacts("r", "one", 2, 0), GroupFacts("r", "several", 2, 0)]
    contexts = Contexts(group, prompts, source, [0, 0, 0, 0, 1], [0, 0, 1, 1, 0], [0, 1, 2, 3, 0],
                        [50, 60, 50, 60, 50], [30, 30, 30, 30, 30])  # fmt: skip
    chosen = effects._chosen(contexts, 0, 2)
    assert len(chosen) == 2 and [contexts.of_text[task] for task in chosen] == [0, 1]
    assert len({contexts.target_ids[task] for task in chosen}) == 2
    assert len(effects._chosen(contexts, 0, 9)) == 2 and effects._chosen(contexts, 1, 2) == []
    found = effects.measure_effects(running, contexts, 2)
    assert found["pairs"].tolist() == [2, 0]
    expected = np.zeros_like(found["hits"])
    for task in chosen:
        ids = torch.tensor([contexts.prompts[contexts.prompt[task]]])
        for heads, change in effects.head_effects(running, ids, torch.tensor([0])):
            for (layer, head), row in zip(heads, change, strict=True):
                own = row[contexts.target_ids[task]]
                expected[0, 0, layer, head] += int((row >= own).sum() - 1 < 30)
                expected[0, 1, layer, head] += int((row <= own).sum() - 1 < 30)
    assert (found["hits"] == expected).all() and expected.sum() > 3
