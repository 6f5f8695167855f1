"""An adapter that removes heads: exact when it is read back, by headatlas and by PEFT, and measured as what it is."""

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from headatlas import load_atlas, map_heads, remove_heads
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.cli import app
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring import removing_adapter as module
from headatlas.measuring.running.model import RunningModel
from models import make_model, save_model
from needs import need_package
from planted import PAIRS, make_planted, write_relation


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The folder of a model whose L1H2 maps sources to targets, and its atlas."""
    place = tmp_path_factory.mktemp("planted")
    model = make_planted(place / "model")
    relation = write_relation(place / "country_to_capital.json", PAIRS)
    map_heads(model, place / "atlas", relations=relation, profile="maps")
    (place / "text.txt").write_text(f" {' '.join(word for pair in PAIRS for word in pair)}" * 10, "utf-8")
    return place


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma3_text", "gpt_neox", "mixtral"])
def test_the_adapter_takes_away_these_heads_and_nothing_else(case, tmp_path):
    reference = make_model(case)
    folder = save_model(reference, tmp_path / "model")
    heads = open_model(open_checkpoint(folder))
    chosen = [(1, 0), (1, heads.n_heads - 1), (0, 1)]
    tensors, config = module.removing_adapter(heads, chosen)
    module._write(tmp_path / "adapter", tensors, config, "card")
    adapted = open_model(open_checkpoint(folder, adapter=tmp_path / "adapter"))
    for layer in range(heads.n_layers):
        before, after = (each.values_and_outputs(layer)[1].clone() for each in (heads, adapted))
        before[[head for at, head in chosen if at == layer]] = 0
        assert torch.equal(before, after)
    ids = torch.arange(12).view(2, 6)
    running = RunningModel(heads)
    with running.without({1: [0, heads.n_heads - 1], 0: [1]}, tokens=slice(None)):
        expected = running.last_logits(ids)
    found = RunningModel(adapted).last_logits(ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert (found - running.last_logits(ids)).abs().max() > 1e-3 * expected.abs().max()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what PEFT calls in transformers
def test_peft_reads_it_with_the_same_result(tmp_path):
    need_package("peft", "dev")
    import peft

    reference = make_model("llama")
    folder = save_model(reference, tmp_path / "model")
    heads = open_model(open_checkpoint(folder))
    module._write(tmp_path / "adapter", *module.removing_adapter(heads, [(1, 2), (0, 1), (0, 3)]), "card")
    running = RunningModel(heads)
    ids = torch.arange(12).view(2, 6)
    with running.without({1: [2], 0: [1, 3]}, tokens=slice(None)):
        expected = running.last_logits(ids)
    with torch.no_grad():
        found = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter")(ids).logits[:, -1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_head_of_the_relation_is_gone_from_the_map_with_the_adapter(planted, tmp_path):
    atlas = load_atlas(planted / "atlas")
    prompts = tmp_path / "prompts.toml"
    prompts.write_text('[country_to_capital]\nprompt = "{source}"\nshots = 0\n', "utf-8")
    found = remove_heads(
        atlas, "country_to_capital", tmp_path / "adapter", n_heads=1, prompts=prompts, text=planted / "text.txt",
        add_relations=planted / "country_to_capital.json",
    )  # fmt: skip
    assert found.heads == ("L1H2",) and list(found.rank) == [1]
    assert found.effects[0].task == "country_to_capital"
    assert found.effects[-1].measure == "perplexity" and found.effects[-1].whole >= 1
    again = map_heads(
        planted / "model", relations=planted / "country_to_capital.json", adapter=tmp_path / "adapter", profile="maps"
    )
    assert atlas.scores.values[0, 1, 2] == 1 and again.scores.values[0, 1, 2] == 0
    card = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert "L1H2" in card and "| `country_to_capital` | accuracy |" in card


def test_bad_requests_leave_nothing(planted, tmp_path):
    atlas = load_atlas(planted / "atlas")
    with pytest.raises(HeadatlasError, match="relation"):
        remove_heads(atlas, "country_to_nothing", tmp_path / "a")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("mine", "utf-8")
    with pytest.raises(AtlasError, match="expected an empty folder, found files"):
        remove_heads(atlas, "country_to_capital", tmp_path / "used", overwrite=True)
    assert not (tmp_path / "a").exists() and (tmp_path / "used" / "thesis.tex").read_text("utf-8") == "mine"
    with pytest.raises(SettingsError, match="n_heads: expected a whole number of at least 1, found 0"):
        remove_heads(atlas, "country_to_capital", tmp_path / "a", n_heads=0)


def test_overwriting_spares_what_is_not_the_adapter(planted, tmp_path):
    module._write(tmp_path / "adapter", {"x": torch.zeros(1)}, {}, "old")
    (tmp_path / "adapter" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(AtlasError, match="replaces an adapter that is alone there"):
        remove_heads(load_atlas(planted / "atlas"), "country_to_capital", tmp_path / "adapter", overwrite=True)
    assert (tmp_path / "adapter" / "notes.txt").read_text("utf-8") == "mine"


def test_an_error_while_writing_leaves_the_old_adapter(tmp_path, monkeypatch):
    folder = tmp_path / "adapter"
    module._write(folder, {"x": torch.zeros(1)}, {}, "old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(AtlasError, match="the adapter cannot be written"):
        module._write(folder, {"x": torch.ones(1)}, {}, "new")
    assert (folder / "README.md").read_text("utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_the_command_prints_effects(planted, tmp_path):
    prompts = tmp_path / "prompts.toml"
    prompts.write_text('[country_to_capital]\nprompt = "{source}"\nshots = 0\n', "utf-8")
    common = [
        "remove", str(planted / "atlas"), "--relation", "country_to_capital", "-o", str(tmp_path / "adapter"),
        "--prompts", str(prompts), "--add-relations", str(planted / "country_to_capital.json"), "--n-prompts", "10",
        "--text", str(planted / "text.txt"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, common)
    assert result.exit_code == 0, result.output
    assert "without L1H2" in result.stdout and "perplexity" in result.stdout
    result = CliRunner().invoke(app, [*common, "--overwrite", "--json"])
    assert json.loads(result.stdout)["heads"] == ["L1H2"]
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["r"] == 40 and "/" not in config["base_model_name_or_path"]
    assert set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))


def test_an_interrupted_removal_goes_on_with_the_next_effect(planted, tmp_path, monkeypatch):
    prompts = tmp_path / "prompts.toml"
    prompts.write_text('[country_to_capital]\nprompt = "{source}"\nshots = 0\n', "utf-8")

    def remove(name, **changed):
        return remove_heads(
            load_atlas(planted / "atlas"), "country_to_capital", tmp_path / name, prompts=prompts, n_prompts=10,
            add_relations=planted / "country_to_capital.json", text=planted / "text.txt", **changed,
        )  # fmt: skip

    whole, measured = remove("whole"), []

    def stop_third(*given):
        measured.append(given)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return perplexity(*given)

    perplexity, accuracy = module.perplexity, module.accuracy
    monkeypatch.setattr(module, "perplexity", stop_third)
    with pytest.raises(KeyboardInterrupt):
        remove("adapter")
    assert not (tmp_path / "adapter").exists() and len(measured) == 3
    monkeypatch.setattr(module, "accuracy", lambda *_: pytest.fail("measured again"))
    # Two of five measurements on the text were kept.
    assert remove("adapter") == whole and len(measured) == 3 + 3
    assert (tmp_path / "adapter" / "README.md").read_bytes() == (tmp_path / "whole" / "README.md").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "prompts.toml", "whole"]

    # Parts of another seed are not used.
    monkeypatch.setattr(module, "accuracy", accuracy)
    measured.clear()
    with pytest.raises(KeyboardInterrupt):
        remove("other")
    assert remove("other", seed=1).effects and len(measured) == 3 + 5


@pytest.mark.parametrize(("draws", "elsewhere", "known"), [
    ([[(1, 0)], [(1, 1)]], 0, True),
    ([[(0, 0)], [(1, 1)]], 1, False),
    ([[]], 0, False),
])  # fmt: skip
def test_random_heads_are_compared_if_they_are_of_the_same_layers(
    planted, tmp_path, monkeypatch, draws, elsewhere, known
):
    asked = []
    monkeypatch.setattr(module, "random_heads", lambda *given: asked.append(given) or (draws, elsewhere))
    prompts = tmp_path / "prompts.toml"
    prompts.write_text('[country_to_capital]\nprompt = "{source}"\nshots = 0\n', "utf-8")
    found = remove_heads(
        load_atlas(planted / "atlas"), "country_to_capital", tmp_path / "adapter", n_heads=1, prompts=prompts,
        text=planted / "text.txt", add_relations=planted / "country_to_capital.json",
    )  # fmt: skip
    assert asked[0][1:3] == ("country_to_capital", [(1, 2)])
    assert all((each.random is not None) == known for each in found.effects)
