"""The profile `alone`: hits against a plain float64 loop over transformers' own hidden states, and what goes wrong."""

import pandas as pd
import pytest
import torch

import headatlas
from headatlas.architectures import alone as reading
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.folder import ModelFolder
from headatlas.errors import ArchitectureError, SettingsError
from headatlas.measuring import kept_residuals, prefix
from headatlas.relations import Relation
from interrupts import interrupt_at_layer
from models import CASES, STRUCTURE_CASES, make_model, make_tokenizer, save_model
from planted import PAIRS, WORDS
from reference import plain_loop
from running_inputs import read_by_transformers

K = 5
RELATIONS = [
    Relation("there", tuple((a, b) for a, b in PAIRS), "Planted", k=K),
    Relation("back", tuple((b, a) for a, b in PAIRS), "Planted", k=K),
]


@pytest.fixture(autouse=True)
def words_are_tokens(monkeypatch):
    """Some families' own tokenizer classes would read the saved tokenizer in their way."""
    monkeypatch.setattr(ModelFolder, "load_tokenizer", lambda self: make_tokenizer(WORDS))


TOKEN = {word: number for number, word in enumerate(WORDS, start=1)}


def saved(case, folder, seed=0, **changes):
    model = make_model(case, seed, **changes)
    return model, save_model(model, folder / "tiny", WORDS)


def map_alone(folder, output=None, **options):
    return headatlas.map_heads(folder, output, relations=RELATIONS, profile="alone", **options)


def assert_same_hits(atlas, other):
    for name in ("hits", "suppression_hits"):
        assert (atlas.data[name] == other.data[name]).all()


def check_against_plain_loop(case, folder, seed=0):
    reference, folder = saved(case, folder, seed)
    atlas = map_alone(folder, chance=False)
    ours = open_model(open_checkpoint(folder), None, "alone")
    words = torch.tensor(sorted({TOKEN[word] for pair in PAIRS for word in pair}))
    inputs = read_by_transformers(reference, ours, [[atlas.manifest.prefix.token, each] for each in words.tolist()])
    W_U = ours.W_U().double()
    found = 0
    for relation in RELATIONS:
        source, target = (torch.tensor([TOKEN[pair[side]] for pair in relation.pairs]) for side in (0, 1))
        for layer in range(ours.n_layers):
            if not ours.has_heads(layer):
                assert not atlas.data["hits"].sel(relation=relation.name, layer=layer).any()
                continue
            x = inputs[ours.attention.value_layer(layer)]
            if ours.terms.value_bias:
                x = torch.nn.functional.pad(x, (0, 1), value=1.0)
            W_V, W_O = (each.double() for each in ours.values_and_outputs(layer))
            for head, kv_head in enumerate(ours.kv_head_of(layer)):
                promoted, suppressed = plain_loop(
                    x, W_V[kv_head], W_O[head], W_U, torch.searchsorted(words, source), target, K
                )
                of_head = atlas.data.sel(relation=relation.name, layer=layer, head=head)
                assert (of_head["hits"], of_head["suppression_hits"]) == (promoted.sum(), suppressed.sum())
                found += int(promoted.sum() + suppressed.sum())
    assert found


@pytest.mark.parametrize("case", [*CASES, *STRUCTURE_CASES])
def test_every_hit_is_the_plain_loop_s(tmp_path, case):
    check_against_plain_loop(case, tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma3_text", "mixtral", "deepseek_v3"])
def test_and_so_for_other_weights(tmp_path, case, seed):
    check_against_plain_loop(case, tmp_path, seed)


def test_the_manifest_and_the_label(tmp_path):
    _, folder = saved("qwen2", tmp_path)
    atlas = map_alone(folder, k=7)
    manifest = atlas.manifest
    assert manifest.label == "alone, modified: k=7"
    settings = manifest.settings
    assert (settings.profile, settings.rule, settings.contextualize) == ("alone", "plain", "alone")
    assert settings.value_bias and settings.final_norm_gain and not settings.attention_gain
    found = manifest.prefix
    assert settings.prefix == found.token and found.rule == "ordinary" and found.why_not is None
    assert 0 < found.error < 1e-4 and found.agreement is None  # no ordinary word is one token
    assert map_alone(folder, k=7, self_check=False).manifest.prefix.why_not == "not asked for"


def test_the_fingerprint_covers_all_that_the_words_pass_through(tmp_path):
    model, folder = saved("llama", tmp_path)
    fingerprints = {
        kind: open_model(open_checkpoint(folder), None, kind).fingerprint() for kind in ("alone", "first-mlp")
    }
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    save_model(model, folder, WORDS)
    changed = {kind: open_model(open_checkpoint(folder), None, kind).fingerprint() for kind in fingerprints}
    assert changed["first-mlp"] == fingerprints["first-mlp"] and changed["alone"] != fingerprints["alone"]
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] -= 1
    model.config.rope_parameters["rope_theta"] = 777.0
    save_model(model, folder, WORDS)
    assert open_model(open_checkpoint(folder), None, "alone").fingerprint() != fingerprints["alone"]


def test_another_prefix_gives_another_map(tmp_path):
    _, folder = saved("llama", tmp_path)
    first = map_alone(folder)
    other = map_alone(folder, prefix=f" {WORDS[40]}")
    assert other.manifest.prefix.rule == "user" and other.manifest.prefix.token == TOKEN[WORDS[40]]
    assert other.manifest.identity != first.manifest.identity
    assert (first.data["hits"] != other.data["hits"]).any()
    assert (first.data["hits"] == other.data["hits"]).sel(layer=0).all()  # the first layer reads the word alone


@pytest.mark.parametrize("given", ["", " two words", "nothing of this model"])
def test_a_prefix_that_is_not_one_token_is_refused(tmp_path, given):
    _, folder = saved("llama", tmp_path)
    with pytest.raises(SettingsError, match=r"prefix: expected one token of this model, found"):
        map_alone(folder, prefix=given)


def test_options_that_contradict_the_profile_are_refused(tmp_path):
    _, folder = saved("llama", tmp_path)
    with pytest.raises(SettingsError, match="only heads that read words alone need one"):
        headatlas.map_heads(folder, relations=RELATIONS, profile="maps", prefix=" the")
    with pytest.raises(SettingsError, match="the profile alone counts all that the model has"):
        map_alone(folder, value_bias=True)


def test_the_tokenizer_s_own_first_token_is_the_prefix(tmp_path, monkeypatch):
    _, folder = saved("llama", tmp_path)
    monkeypatch.setattr(prefix, "leading_ids", lambda tokenizer: [7])
    found = map_alone(folder).manifest.prefix
    assert (found.token, found.rule) == (7, "tokenizer")


@pytest.mark.parametrize("every", [0, 1e9])
@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma4_text"])
def test_an_interrupted_run_goes_on_from_its_residuals(tmp_path, monkeypatch, case, every):
    monkeypatch.setattr(kept_residuals, "SAVE_EVERY", every)
    changes = {} if case == "gemma4_text" else {"n_layer" if case == "gpt2" else "num_hidden_layers": 5}
    _, folder = saved(case, tmp_path, **changes)
    whole, out = map_alone(folder), tmp_path / "out"
    last = whole.n_layers - 1
    with monkeypatch.context() as patch:
        interrupt_at_layer(patch, last)
        with pytest.raises(KeyboardInterrupt):
            map_alone(folder, out, self_check=False)
    kept = sorted(path.name for path in out.glob(".unfinished/residuals-*.npz"))
    shares = case == "gemma4_text"  # layers read other layers' keys and values: only a whole pass is right
    assert kept[-1:] == ([] if every or shares else [f"residuals-{last:04}.npz"]) and len(kept) <= 2
    ran = []
    forward = reading.run_streamed

    def note(heads, ids, see, *rest, **named):
        ran.append([])
        return forward(heads, ids, lambda layer, x: ran[-1].append(layer) or see(layer, x), *rest, **named)

    monkeypatch.setattr(reading, "run_streamed", note)
    atlas = map_alone(folder, out)
    assert atlas.manifest.run.layers_from_earlier_run == last
    assert atlas.manifest.prefix == whole.manifest.prefix
    assert len(ran) == 2 and ran[1] == ([last] if kept else list(range(last + 1)))
    assert atlas.table.equals(whole.table)
    assert not (out / ".unfinished").exists()


def test_a_map_measures_salient_operations_in_the_same_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_residuals, "SAVE_EVERY", 0)
    _, folder = saved("llama", tmp_path)
    apart = headatlas.measure_salient(map_alone(folder, tmp_path / "apart"))
    ran, forward = [], reading.run_streamed

    def note(heads, ids, *rest, **named):
        ran.append(len(ids))
        return forward(heads, ids, *rest, **named)

    monkeypatch.setattr(reading, "run_streamed", note)
    together = map_alone(folder, salient=True)
    assert len(ran) == 2
    out = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        interrupt_at_layer(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            map_alone(folder, out, salient=True, self_check=False)
    assert list(out.glob(".unfinished/residuals-*.npz"))
    # Those residuals are of other tokens too.
    assert map_alone(folder, out).table.equals(apart.table)
    later = map_alone(folder, out, salient=True)
    for atlas in (together, later):
        assert atlas.table.equals(apart.table)
        assert atlas.manifest.prefix == apart.manifest.prefix
        for name in ("salient", "similar", "descriptions"):
            pd.testing.assert_frame_equal(atlas.evidence(name), apart.evidence(name), rtol=1e-6)


def test_a_damaged_residual_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_residuals, "SAVE_EVERY", 0)
    _, folder = saved("llama", tmp_path)
    whole, out = map_alone(folder), tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_at_layer(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            map_alone(folder, out, self_check=False)
    kept = max(out.glob(".unfinished/residuals-*.npz"))
    kept.write_bytes(kept.read_bytes()[:-40])
    assert map_alone(folder, out).table.equals(whole.table)


def test_a_residual_that_is_wrong_stops_the_run(tmp_path, monkeypatch):
    _, folder = saved("llama", tmp_path)
    monkeypatch.setattr(prefix, "TOLERANCE", 0.0)
    with pytest.raises(ArchitectureError, match=r"layer 2: the heads read something else than in the whole model"):
        map_alone(folder)


def test_a_model_that_does_not_fit_is_mapped_and_said_to_be_unchecked(tmp_path, monkeypatch):
    from headatlas.measuring.running import model as running

    _, folder = saved("llama", tmp_path)
    monkeypatch.setattr(running, "memory_available", lambda: 1)
    found = map_alone(folder).manifest.prefix
    assert found.error is None and "needs about" in found.why_not


def test_find_and_salient_operations_read_what_the_scores_read(tmp_path):
    _, folder = saved("gpt2", tmp_path)
    atlas = headatlas.map_heads(folder, tmp_path / "atlas", relations=RELATIONS, profile="alone")
    found = headatlas.find_heads(atlas, [f"{a}->{b}" for a, b in PAIRS], k=K)
    for row in found.table.itertuples():
        assert row.hits == int(atlas.data["hits"].sel(relation="there", layer=row.layer, head=row.head))
    salient = headatlas.measure_salient(atlas, tokens=3).evidence("salient")
    assert len(salient.drop_duplicates(["layer", "head", "rank"])) == atlas.n_layers * atlas.n_heads * 3


def test_the_plan_says_that_everything_is_read(tmp_path):
    _, folder = saved("llama", tmp_path)
    plan, published = (headatlas.plan_map(folder, relations=RELATIONS, profile=name) for name in ("alone", "maps"))
    assert plan.to_read > published.to_read and plan.input_seconds > 0 == published.input_seconds
    assert plan.memory > published.memory


def test_the_report_says_what_was_read(tmp_path):
    from dataclasses import replace

    _, folder = saved("llama", tmp_path)
    atlas = map_alone(folder)
    report = " ".join(headatlas.write_report(atlas).split())
    assert "what the model's own layers hand to the heads for the token alone, behind the prefix" in report
    assert "It differs from that of the whole model in memory by at most" in report and "(agreement" not in report
    odd = replace(atlas.manifest.prefix, agreement=0.42, error=None, why_not="too large.")
    changed = replace(atlas, manifest=replace(atlas.manifest, prefix=odd))
    report = " ".join(headatlas.write_report(changed).split())
    assert "It was not compared with the whole model in memory (too large)." in report
    assert "(agreement 0.42, expected at least 0.5): another one, by --prefix, may suit the model better." in report


def test_a_run_of_which_only_the_results_were_missing_keeps_what_it_found(tmp_path, monkeypatch):
    from headatlas.measuring import run_folder

    _, folder = saved("llama", tmp_path)
    whole = map_alone(folder)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_results", fail)
        with pytest.raises(KeyboardInterrupt):
            map_alone(folder, tmp_path / "out")
    monkeypatch.setattr(reading, "run_streamed", fail)  # nothing has to be read again
    found = map_alone(folder, tmp_path / "out").manifest
    assert found.prefix == whole.manifest.prefix and found.prefix.error is not None
