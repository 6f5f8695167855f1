"""`prompt` on the demo model, against a plain loop over transformers' own modules."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import headatlas
from headatlas.checkpoints.open import demo_model
from headatlas.cli import app
from needs import need_demo_model

PROMPT = "The capital of France is"
RELATION = Path(headatlas.__file__).parent / "relations" / "data" / "country_to_capital.json"

pytestmark = pytest.mark.system


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def shown(tmp_path_factory, blank_pictures):
    """The JSON of the command, and the folder with its picture, for a map of one relation."""
    need_demo_model()
    place = tmp_path_factory.mktemp("prompt")
    headatlas.map_heads("demo", place / "atlas", relations=RELATION, profile="maps", chance=False, self_check=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headatlas.figures.saving.render", blank_pictures)
        options = ["--controls", "0", "--json", "-o", str(place / "out")]
        result = CliRunner().invoke(app, ["prompt", str(place / "atlas"), PROMPT, *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=refuse), place / "out"


@torch.no_grad()
def plain_loop():
    """Tokens, attention (layer, head, token), what each head adds (layer, head) at the last token, and the answer."""
    file = Path(demo_model())
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    )
    tokens = tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt").input_ids
    read, last = [], []
    hooks = [
        layer.self_attn.v_proj.register_forward_hook(lambda _m, _given, out: read.append(out[0]))
        for layer in model.model.layers
    ]
    hooks.append(model.model.norm.register_forward_hook(lambda _m, given, _out: last.append(given[0][0, -1])))
    found = model(tokens, output_attentions=True)
    for hook in hooks:
        hook.remove()
    norm, unembedding, config = model.model.norm, model.lm_head.weight, model.config
    scale = norm.weight / (last[0].pow(2).mean() + norm.variance_epsilon).sqrt()
    answer = int(found.logits[0, -1].argmax())
    direction = unembedding[answer] - unembedding.mean(0)
    n_heads, group = config.num_attention_heads, config.num_attention_heads // config.num_key_value_heads
    added = np.zeros((config.num_hidden_layers, n_heads))
    for number, layer in enumerate(model.model.layers):
        values = read[number].unflatten(-1, (config.num_key_value_heads, -1))
        weight = layer.self_attn.o_proj.weight.unflatten(1, (n_heads, -1))
        for head in range(n_heads):
            mixed = torch.zeros(values.shape[-1])
            for place in range(tokens.shape[1]):
                mixed += found.attentions[number][0, head, -1, place] * values[place, head // group]
            added[number, head] = float((weight[:, head] @ mixed * scale) @ direction)
    attention = torch.stack([layer[0, :, -1] for layer in found.attentions]).numpy()
    return tokenizer.convert_ids_to_tokens(tokens[0]), attention, added, tokenizer.decode([answer])


def test_numbers_are_those_of_a_plain_loop(shown):
    content, _ = shown
    tokens, attention, added, answer = plain_loop()
    assert len(content["tokens"]) == len(tokens) and content["token"]["text"].strip() == answer.strip() == "Paris"
    assert len(content["heads"]) == added.size
    for head in content["heads"]:
        place = head["layer"], head["head"]
        np.testing.assert_allclose(head["attention"], attention[place], atol=1e-4)
        assert head["contribution"] == pytest.approx(added[place], abs=2e-3)
    strongest = np.unravel_index(added.argmax(), added.shape)
    assert (content["heads"][0]["layer"], content["heads"][0]["head"]) == strongest == (23, 4)


def test_the_picture_and_the_file_are_there(shown):
    content, folder = shown
    (picture,), (file,) = folder.glob("prompt-*.png"), folder.glob("prompt-*.json")
    pixels = imread(picture)
    assert min(pixels.shape[:2]) > 300 and pixels[..., :3].std() > 0.05
    assert json.loads(file.read_text("utf-8"), parse_constant=refuse) == content
