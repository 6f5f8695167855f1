"""A plan tells what a map would take, reads no weights, and does not guess."""

import json
import re

import pytest
import torch
from typer.testing import CliRunner

import headatlas
from headatlas.atlas.manifest import ValidityFacts
from headatlas.checkpoints.folder import ModelFolder
from headatlas.cli import app
from headatlas.measuring import speed
from headatlas.measuring.plan import plan_map
from models import CASES, make_model, make_tokenizer, save_model
from planted import write_relation

WORDS = [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]
PAIRS = [[word, WORDS[at - 3]] for at, word in enumerate(WORDS[:40])]


MEASURED_SPEED = speed.products_per_second


@pytest.fixture(autouse=True)
def one_speed(monkeypatch):
    """Seconds are those of a processor of one speed."""
    monkeypatch.setattr(speed, "products_per_second", lambda threads: 1e11 * threads)


def test_the_speed_of_this_processor_is_measured():
    assert MEASURED_SPEED(1) > 0


class Shapes:
    """A store of tensors that has shapes and no content: reading is an error."""

    def __init__(self, shapes, width=2):
        self.shapes, self.width, self.is_local = shapes, width, False
        self.size = sum(self.n_bytes(name) for name in shapes)

    def names(self):
        return self.shapes

    def __contains__(self, name):
        return name in self.shapes

    def shape(self, name):
        return self.shapes[name]

    def dtype(self, name):
        return "BF16"

    def n_bytes(self, name):
        count = self.width
        for size in self.shapes[name]:
            count *= size
        return count

    def file_of(self, name):
        return "model.safetensors"

    def read(self, name, rows=None):
        raise AssertionError(f"{name} was read")

    def fetch(self, wanted, progress=None):
        raise AssertionError("weights were fetched")


def shaped(folder, monkeypatch, model_type, **config):
    """A checkpoint of any size: transformers' own shapes under transformers' own names."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    config.save_pretrained(folder)
    make_tokenizer(WORDS).save_pretrained(folder)
    store = Shapes(shapes)
    monkeypatch.setattr(
        "headatlas.architectures.open.open_checkpoint", lambda source, adapter=None: ModelFolder(folder, store=store)
    )
    return store


LLAMA_70B = {
    "num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip


def test_of_a_llama_70b_about_an_eighth_has_to_be_read(tmp_path, monkeypatch):
    store = shaped(tmp_path, monkeypatch, "llama", **LLAMA_70B)
    plan = plan_map("llama-70b", relations=write_relation(tmp_path / "r.json", PAIRS), profile="maps")
    assert plan.size == store.size == pytest.approx(141.1e9, rel=0.001)
    assert plan.to_read / plan.size == pytest.approx(1 / 8, abs=0.005)
    assert (plan.n_layers, plan.n_heads, plan.n_kv_heads, plan.d_head) == (80, 64, 8, 128)
    # The unembedding alone is 4.2 GB as float32.
    assert 6e9 < plan.memory < 12e9 and plan.seconds > 1


def test_memory_of_the_demo_model_is_about_what_a_map_takes():
    """Largest RssAnon of `headatlas map demo` on two threads: 2.1 GB; without chance and salient operations 1.6 GB."""
    assert plan_map("demo", threads=2).memory == pytest.approx(2.1e9, rel=0.2)


def test_of_fused_values_only_their_rows_count(tmp_path, monkeypatch):
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 32, "num_attention_heads": 4,
             "vocab_size": 101, "num_key_value_heads": 4, "tie_word_embeddings": False, "pad_token_id": 0}  # fmt: skip
    shaped(tmp_path, monkeypatch, "phi3", **sizes)
    plan = plan_map("x", relations=write_relation(tmp_path / "r.json", PAIRS), profile="maps")
    layer, mlp = 2 * 64 * 64, 3 * 64 * 32 + 64
    assert plan.to_read == 2 * (2 * 101 * 64 + 2 * layer + mlp)


@pytest.mark.parametrize("case", ["llama", "gpt2", "mixtral", "deepseek_v3", "qwen3_next", "gemma3"])
def test_the_plan_is_of_the_map_that_follows(tmp_path, case):
    """The bytes are those that the map then asks for, and names and counts those of its manifest."""
    folder = save_model(make_model(case), tmp_path / "tiny")
    relation = write_relation(tmp_path / "r.json", PAIRS)
    plan = plan_map(folder, relations=relation)
    model = headatlas.map_heads(folder, relations=relation).manifest.as_dict()["model"]
    told = plan.as_dict()
    names = (
        "name",
        "model_type",
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "d_head",
        "d_model",
        "d_vocab",
        "validity",
        "read_by",
    )
    for name in names:
        assert told[name] == model[name], name
    # Of a multimodal model, the language model's.
    assert plan.model_type == {"gemma3": "gemma3_text"}.get(case, CASES[case][0])
    # The words pass through all layers; `maps` reads no queries, no keys and no later MLPs.
    assert plan.to_read == plan.size or model["model_type"] == "gemma3_text"
    assert 0 < plan_map(folder, relations=relation, profile="maps").to_read < plan.size
    assert plan.measurable == ["r"] and plan.not_measurable == [] and plan.n_pairs == 40


def test_an_unknown_family_is_left_to_the_check(tmp_path, monkeypatch):
    monkeypatch.setattr("headatlas.architectures.families.FAMILIES", ())
    folder = save_model(make_model("llama"), tmp_path / "tiny")
    plan = plan_map(folder, relations=write_relation(tmp_path / "r.json", PAIRS))
    assert plan.read_by == "module structure"
    assert plan.validity == (ValidityFacts("not known", "the self-check decides", (0, 1, 2)),)


def test_on_screen_and_as_json(tmp_path):
    folder = save_model(make_model("qwen3_next"), tmp_path / "tiny")
    relation = str(write_relation(tmp_path / "r.json", PAIRS))
    shown = CliRunner().invoke(app, ["plan", str(folder), "--relations", relation])
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    assert "family qwen3_next, read by its entry" in text
    assert "heads 3 layers x 6 heads, 2 key-value heads" in text
    assert "not applicable (linear attention): 2 layers" in text
    assert "1 of 1 measurable, 40 pairs" in text
    assert re.search(r"to read [\d.]+ kB of \d+ kB \(\d+%\)", text)
    told = json.loads(CliRunner().invoke(app, ["plan", str(folder), "--relations", relation, "--json"]).stdout)
    assert told == plan_map(folder, relations=relation).as_dict()
