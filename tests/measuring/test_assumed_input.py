"""A map says of itself when its input has little in common with what the heads of its model read."""

import json
import shlex

import pytest
import torch

import headatlas
from atlases import make_atlas, with_manifest, with_model
from headatlas.analysis.assumed_input import input_cosines, input_warning
from headatlas.atlas.manifest import InputFacts
from headatlas.checkpoints.folder import ModelFolder
from headatlas.cli.app import app
from headatlas.engines import LocalEngine
from headatlas.explorer.payload import build_payload
from headatlas.measuring import assumed_input
from headatlas.measuring.assumed_input import N_TOKENS, choose_sample, mean_cosine
from headatlas.relations import Relation
from headatlas.settings import LEAST_COSINE
from models import make_model, save_model
from planted import PAIRS, WORDS, write_relation

N_LAYERS = 5
BEGINNING = "This map does not see its model: what the heads of most layers read has little in common"
RELATIONS = [Relation("there", tuple((a, b) for a, b in PAIRS), "Planted", k=5)]


def plant(folder, embedding):
    """A model whose layers add only the first MLP's output to the embedding, which is much longer or shorter."""
    model = make_model("mistral", num_hidden_layers=N_LAYERS)
    with torch.no_grad():
        model.model.embed_tokens.weight *= embedding
        for number, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.zero_()
            layer.input_layernorm.weight.fill_(0.7)
            if number:
                layer.mlp.down_proj.weight.zero_()
    return save_model(model, folder, WORDS)


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("thin"), 1e3)


@pytest.fixture(scope="module")
def fitting(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("fitting"), 1e-3)


def map_thin(folder, output=None, **options):
    return headatlas.map_heads(folder, output, relations=RELATIONS, chance=False, profile="maps", **options)


def test_the_cosine_is_of_the_differences_from_the_mean_token():
    generator = torch.Generator().manual_seed(0)
    x, other = torch.randn(2, 200, 31, generator=generator)
    common = 50 * torch.ones(31)
    assert mean_cosine(x, 3 * x + common) == 1 and mean_cosine(x, -x + common) == -1
    assert abs(mean_cosine(x + common, other + common)) < 0.05


def test_the_sample_is_evenly_spaced_over_distinct_sources():
    assert choose_sample([9, 3, 3, 7]).tolist() == [3, 7, 9]
    sample = choose_sample(range(0, 20_000, 2))
    assert len(sample) == N_TOKENS and sample[0] == 0 and sample[-1] == 19_998
    assert sample.diff().max() <= sample.diff().min() + 2


def test_a_thin_map_says_so_everywhere(thin, tmp_path):
    atlas = map_thin(thin, tmp_path / "out")
    facts = atlas.manifest.input
    assert facts.tokens == len({source for source, _ in PAIRS}) and facts.why_not is None
    assert facts.cosines[0] > 0.99 and max(facts.cosines[1:]) < LEAST_COSINE
    sentence = str(input_warning(atlas))
    assert sentence.startswith(BEGINNING) and f"expected at least {LEAST_COSINE}" in sentence
    assert sentence.endswith(f"headatlas map {shlex.quote(str(thin))} --profile alone -o DIR")
    report = " ".join((tmp_path / "out" / "report.md").read_text("utf-8").split())
    assert report.index(BEGINNING) < report.index("## In short") < report.index("the mean cosine of a layer is")
    drawn = " ".join(text.get_text() for text in headatlas.draw_map(atlas).texts)
    assert BEGINNING in drawn and "--profile alone -o DIR" in drawn
    assert headatlas.load_atlas(tmp_path / "out").manifest.input == facts


def test_a_map_whose_layers_read_what_it_assumes_does_not(fitting):
    atlas = map_thin(fitting)
    assert min(atlas.manifest.input.cosines) > 0.99 and input_warning(atlas) is None
    assert "does not see" not in headatlas.write_report(atlas)
    assert not any("does not see" in text.get_text() for text in headatlas.draw_map(atlas).texts)


def test_the_screen_says_it(thin, tmp_path, capsys):
    relation = write_relation(tmp_path / "r.json")
    command = ["map", str(thin), "--relations", str(relation), "-o", str(tmp_path / "out"), "--no-chance"]
    app([*command, "--profile", "maps"], standalone_mode=False)
    assert BEGINNING in " ".join(capsys.readouterr().out.split())
    app([*command, "--profile", "alone", "--overwrite"], standalone_mode=False)
    assert "does not see" not in " ".join(capsys.readouterr().out.split())


def test_the_explorer_has_the_sentence():
    facts = InputFacts(40, (0.01,) * 3)
    atlas = with_manifest(make_atlas(3, 3), input=facts)
    assert header(atlas)["atlases"][0]["warning"] == str(input_warning(atlas)) != ""
    assert header(make_atlas(3, 3))["atlases"][0]["warning"] == ""


def header(atlas):
    import gzip

    content = gzip.decompress(build_payload([atlas]))
    return json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])


def test_the_command_quotes_the_model():
    atlas = with_manifest(make_atlas(3, 3), input=InputFacts(40, (None, 0.1, 0.1)))
    assert "headatlas map 'a b; rm' --profile" in str(input_warning(with_model(atlas, source="a b; rm")))


def test_half_of_the_layers_decide():
    atlas = make_atlas(3, 3)
    for cosines, warned in (((0.1, 0.3, 0.3), False), ((0.1, 0.1, 0.3), True), ((None, 0.1, None), True)):
        changed = with_manifest(atlas, input=InputFacts(40, cosines))
        assert (input_warning(changed) is not None) == warned
    assert input_cosines(atlas) is None and input_warning(atlas) is None


def test_terms_that_are_left_out_are_named(tmp_path):
    model = make_model("gemma3_text")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.post_attention_layernorm.weight.fill_(0.5)  # scales only, which changes no rank
    atlas = map_thin(save_model(model, tmp_path / "tiny", WORDS))
    assert atlas.manifest.input.left_out == ("final_norm_gain", "input_norm_gain")
    report = " ".join(headatlas.write_report(atlas).split())
    assert (
        "leaves out, though it may change ranks: the gain of the final norm and the gain of the norm before" in report
    )
    counted = map_thin(tmp_path / "tiny", final_norm_gain=True, input_norm_gain=True)
    assert counted.manifest.input.left_out == () and "leaves out, though" not in headatlas.write_report(counted)


def test_a_bias_of_zeros_changes_no_rank(tmp_path):
    model = make_model("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.bias.zero_()
    assert "value_bias" not in map_thin(save_model(model, tmp_path / "zeros", WORDS)).manifest.input.left_out
    assert "value_bias" in map_thin(save_model(make_model("llama"), tmp_path / "bias", WORDS)).manifest.input.left_out


def test_what_is_not_compared_says_why(thin, monkeypatch):
    assert headatlas.map_heads(thin, relations=RELATIONS, chance=False, profile="alone").manifest.input is None
    facts = {"asked": map_thin(thin, self_check=False).manifest.input}
    with monkeypatch.context() as patch:
        patch.setattr(ModelFolder, "is_local", property(lambda self: False))
        atlas = map_thin(thin)
        facts["remote"] = atlas.manifest.input
    with monkeypatch.context() as patch:
        patch.setattr(ModelFolder, "why_not_run", property(lambda self: "its router is unknown"))
        facts["router"] = map_thin(thin).manifest.input
    assert {name: each.why_not for name, each in facts.items()} == {
        "asked": "it was not asked for",
        "remote": "the whole model would have to be transferred",
        "router": "the model cannot be run: its router is unknown",
    }
    assert all(not each.tokens and not each.cosines and not each.left_out for each in facts.values())
    report = " ".join(headatlas.write_report(atlas).split())
    assert "was not measured (the whole model would have to be transferred)." in report and "does not see" not in report


def test_weights_that_the_map_does_not_need_may_be_damaged(tmp_path):
    model = make_model("mistral", num_hidden_layers=N_LAYERS)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = torch.nan
    found = map_thin(save_model(model, tmp_path / "tiny", WORDS)).manifest.input
    assert found.cosines == () and "values that are NaN or infinite" in found.why_not


@pytest.mark.parametrize("every", [0, 1e9])
def test_an_interrupted_comparison_goes_on(thin, tmp_path, monkeypatch, every):
    monkeypatch.setattr("headatlas.measuring.kept_residuals.SAVE_EVERY", every)
    whole, out = map_thin(thin), tmp_path / "out"
    right = assumed_input.mean_cosine
    seen = []

    def count(assumed, real, last=None):
        if len(seen) == last:
            raise KeyboardInterrupt
        seen.append(real)
        return right(assumed, real)

    with monkeypatch.context() as patch:
        patch.setattr(assumed_input, "mean_cosine", lambda *of: count(*of, last=3))
        with pytest.raises(KeyboardInterrupt):
            map_thin(thin, out)
    seen.clear()
    monkeypatch.setattr(assumed_input, "mean_cosine", count)
    atlas = map_thin(thin, out)
    assert len(seen) == (N_LAYERS if every else N_LAYERS - 3)
    assert atlas.manifest.input == whole.manifest.input and atlas.table.equals(whole.table)
    assert not (out / ".unfinished").exists()


def test_a_finished_comparison_is_not_made_again(thin, tmp_path, monkeypatch):
    whole, out = map_thin(thin), tmp_path / "out"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            map_thin(thin, out)
    monkeypatch.setattr("headatlas.architectures.streamed.run_streamed", stop)
    assert map_thin(thin, out).manifest.input == whole.manifest.input


def test_the_plan_says_what_the_comparison_takes(thin, monkeypatch):
    options = {"relations": RELATIONS, "profile": "maps"}
    plan = headatlas.plan_map(thin, **options)
    assert plan.compare_seconds > 0 == plan.input_seconds
    assert headatlas.plan_map(thin, relations=RELATIONS, profile="alone").compare_seconds == 0
    monkeypatch.setattr(ModelFolder, "is_local", property(lambda self: False))
    remote = headatlas.plan_map(thin, **options)
    assert remote.compare_seconds == 0 and remote.memory <= plan.memory
