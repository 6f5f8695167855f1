"""Both real models: hits of the profile `alone` against a plain float64 loop over transformers' own hidden states.

Transformers reads the GGUF file by its own loader, and the loop takes everything from that model: what is shared with
headatlas is the tokenizer and the words.
"""

import os
import random
from dataclasses import replace
from itertools import product

import pytest
import torch

import headatlas
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.run_modules import in_float64
from headatlas.checkpoints.open import demo_model
from headatlas.relations import builtin_relations
from needs import find_gemma, need_demo_model
from reference import load_by_transformers

RELATIONS = (
    "country_to_capital", "country_to_demonym", "country_to_language", "verb_to_past_tense", "verb_to_gerund",
    "adj_to_comparative", "word_to_antonym", "noun_to_plural", "word_to_first_letter", "name_copying",
)  # fmt: skip
MEASURED = 30
"""Pairs of each relation, the fewest that a map measures."""

PAIRS = 12
"""Pairs of each relation whose sources are compared, in all relations that have them."""

HEADS = int(os.environ.get("HEADATLAS_HEADS", "0"))
"""Heads of each layer, by hand: `HEADATLAS_HEADS=9 pytest -m system tests/measuring/test_real_models.py` for all."""


def read_behind(model, prefix, tokens):
    """What each layer's heads read at a token behind the prefix: Float64[Tensor, "n_layers n_tokens d_model"]."""
    ids = torch.stack([torch.full_like(tokens, prefix), tokens], 1)
    with torch.no_grad(), in_float64(throughout=True):
        states = model.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        layers = model.model.layers
        read = [layer.input_layernorm(state[:, 1]) for layer, state in zip(layers, states, strict=False)]
    return torch.stack(read).float().double()  # the definition: computed in float64, rounded to float32 once


def single_tokens(tokenizer):
    """Words of the relations that are one token behind a space, and their tokens."""
    words = {word for each in builtin_relations() if each.name in RELATIONS for pair in each.pairs for word in pair}
    found = {word: tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words}
    return {word: ids[0] for word, ids in found.items() if len(ids) == 1}


def some_pairs(relation, word):
    """The relation with as few pairs as can be measured."""
    known = [pair for pair in relation.pairs if pair[0] in word and pair[1] in word]
    return replace(relation, pairs=tuple(random.Random(0).sample(known, MEASURED)))


def chosen_sources(pairs):
    """Source tokens, some of each relation."""
    generator = random.Random(0)
    return sorted({source for each in pairs.values() for source, _ in generator.sample(sorted(each), PAIRS)})


def circuits(model, of_each_layer, gain_offset):
    """Some heads of each layer with all that stands between their input and the logits: layer, head, W_V, W_O, W_U."""
    W_U = model.lm_head.weight * (model.model.norm.weight + gain_offset)
    generator = random.Random(1)
    for number, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        W_O = attention.o_proj.weight.T
        if gain_offset:  # Gemma's norm behind the attention
            W_O = W_O * (layer.post_attention_layernorm.weight + gain_offset)
        W_V, W_O = attention.v_proj.weight.T.split(attention.head_dim, 1), W_O.split(attention.head_dim, 0)
        for head in generator.sample(range(len(W_O)), min(HEADS or of_each_layer, len(W_O))):
            yield number, head, W_V[head * len(W_V) // len(W_O)], W_O[head], W_U


def hits_by_plain_loop(x, W_V, W_O, W_U, place, pairs, k):
    """Hits of a head: (relation, source, target, side)."""
    logits = ((x @ W_V) @ W_O) @ W_U.T
    for relation, of_relation in pairs.items():
        for source, target in of_relation:
            row = logits[place[source]]
            for side, reached in (("promoted", row >= row[target]), ("suppressed", row <= row[target])):
                if int(reached.sum()) - 1 < k[relation]:
                    yield relation, source, target, side


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize("name, of_each_layer, gain_offset", [("demo", 4, 0.0), ("gemma", 1, 1.0)])
def test_no_hit_differs_from_the_plain_loop_s(name, of_each_layer, gain_offset):
    if name == "demo":
        need_demo_model()
    path = demo_model() if name == "demo" else find_gemma()
    word = single_tokens(open_checkpoint(path).load_tokenizer())
    relations = [some_pairs(each, word) for each in builtin_relations() if each.name in RELATIONS]
    atlas = headatlas.map_heads(path, relations=relations, profile="alone", chance=False, self_check=False)
    assert len(atlas.relations) == len(RELATIONS) >= 8
    k = {str(relation): int(each) for relation, each in zip(atlas.relations, atlas.data["k"].values, strict=True)}
    pairs = {each.name: {(word[a], word[b]) for a, b in each.pairs} for each in relations}
    assert set(atlas.data["pairs"].values) == {MEASURED}
    sources = chosen_sources(pairs)
    place = {source: number for number, source in enumerate(sources)}
    pairs = {name: sorted(pair for pair in each if pair[0] in place) for name, each in pairs.items()}

    model = load_by_transformers(path).double()
    x = read_behind(model, atlas.manifest.prefix.token, torch.tensor(sources))
    compared, expected = set(), set()
    with torch.no_grad():
        for layer, head, *circuit in circuits(model, of_each_layer, gain_offset):
            compared.add((layer, head))
            of_head = hits_by_plain_loop(x[layer], *circuit, place, pairs, k)
            expected |= {(layer, head, *hit) for hit in of_head}
    n_decisions = 2 * len(compared) * sum(map(len, pairs.values()))
    rows = atlas.pair_hits
    columns = (rows[each] for each in ("layer", "head", "relation", "source_id", "target_id", "side"))
    found = {hit for hit in zip(*columns, strict=True) if hit[:2] in compared and hit[3] in place}
    print(f"{name}: {n_decisions:,} decisions about {len(compared)} heads, {len(expected):,} hits")
    assert len(expected) > 100 and n_decisions > 5_000
    assert found == expected
    counted = rows.groupby(["relation", "layer", "head", "side"]).size()
    for relation, layer, head in product(RELATIONS, range(atlas.n_layers), range(atlas.n_heads)):
        own = atlas.data.sel(relation=relation, layer=layer, head=head)
        for side, variable in (("promoted", "hits"), ("suppressed", "suppression_hits")):
            assert counted.get((relation, layer, head, side), 0) == own[variable]
