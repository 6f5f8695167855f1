"""The referee's notebook on a tiny model with evidence: it agrees with the atlas, and stops at every wrong number."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import headatlas
from atlases import VALIDATION, make_attention
from headatlas.analysis import arrangements, boundaries, correlations, meetings, reading
from headatlas.analysis.correlations import correlate
from headatlas.architectures import head_inputs
from headatlas.atlas import load_atlas, save_atlas, statistics, value
from headatlas.measuring.prefix import choose_prefix
from headatlas.measuring.session import Session
from headatlas.relations import builtin_relations
from models import make_model, save_model
from needs import ROOT
from test_tools import load_tool

NOTEBOOK = ROOT / "examples" / "referee.ipynb"
PLANTED = {
    (1, 2): "country_to_capital", (4, 3): "country_to_capital", (4, 1): "verb_to_gerund", (3, 2): "city_to_country",
    (4, 2): "capital_to_country", (2, 0): "word_to_uppercase", (3, 1): "verb_to_gerund",
}  # fmt: skip
AGREE = (
    "Wilson intervals agree", "score, calibrated:", "Knowledge: layers explain", "any category: layer", "all orders",
    "Knowledge and Linguistic:", "pairs of reading and writing agree", "correlations agree",
    "no p-value is below the simulated one", "The bound is this many times", "probabilities counted",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model of five layers, some of whose heads map relations, and its atlas with attention and validation."""
    place = tmp_path_factory.mktemp("referee")
    relations = [each for each in builtin_relations() if each.name in set(PLANTED.values())]
    relations = [replace(each, pairs=tuple(each.pairs[:90])) for each in relations]
    words = list(dict.fromkeys(word for each in relations for pair in each.pairs for word in pair))
    model = make_model("llama", num_hidden_layers=5, vocab_size=len(words) + 500)  # the others compete
    with torch.no_grad():
        # What heads read differs from word to word.
        model.model.embed_tokens.weight.mul_(20)
        model.model.norm.weight.fill_(1)
        for layer in model.model.layers:
            layer.self_attn.v_proj.bias.zero_()
    save_model(model, place / "model", words)
    session = Session(place / "model")
    id_of = {word: number for number, word in enumerate(words, start=1)}
    prefix = choose_prefix(session, set(id_of.values()))
    W_U = model.lm_head.weight
    with torch.no_grad():
        W_U /= W_U.norm(dim=1, keepdim=True)
        for (layer, head), name in PLANTED.items():
            (pairs,) = (each.pairs for each in relations if each.name == name)
            source, target = (torch.tensor([id_of[pair[side]] for pair in pairs]) for side in (0, 1))
            ((_, x),) = head_inputs(session.heads, source, [layer], prefix.token)
            W_V, W_O = session.heads.values_and_outputs(layer)
            output = x @ W_V[session.heads.kv_head_of(layer)[head]] @ W_O[head]
            output = output - output.mean(0)
            W_U.index_add_(0, target, output / output.norm(dim=1, keepdim=True))
    save_model(model, place / "model", words)
    atlas = headatlas.map_heads(place / "model", place / "mapped", relations=relations)
    save_atlas(with_evidence(atlas), place / "atlas")
    return place


def with_evidence(atlas):
    """The atlas with shares of attention, and hits of a running model that are partly those of the scores."""
    generator = np.random.default_rng(0)
    table = make_attention(atlas).evidence("attention")
    tested = table["p_value"].notna()
    table.loc[tested, "p_value"] = np.where(table.loc[tested, "value"] > 0.2, 1e-7, 1) * generator.random(tested.sum())
    table.loc[tested, "q_value"] = statistics.benjamini_hochberg(table.loc[tested, "p_value"].to_numpy())
    atlas = atlas.with_evidence({"attention": (table, make_attention(atlas).manifest.evidence.attention)})
    scores = atlas.table[["relation", "layer", "head", "hits", "suppression_hits", "pairs"]]
    parts = []
    for condition, kept in (("attention-fixed", 0.9), ("in-context", 0.5)):
        part = scores.assign(condition=condition, tokens="one", prompts=scores["pairs"])
        for name, share in (("hits", "score"), ("suppression_hits", "suppression")):
            part[name] = generator.binomial(part[name], kept) + generator.binomial(2, 0.5, len(part))
            part[name] = part[name].clip(upper=part["prompts"])
            part[share] = part[name] / part["prompts"]
        parts.append(part)
    columns = (
        "relation", "layer", "head", "condition", "tokens", "pairs", "prompts", "hits", "suppression_hits", "score",
        "suppression",
    )  # fmt: skip
    validation = pd.concat(parts, ignore_index=True)[list(columns)]
    facts = replace(VALIDATION, correlations=tuple(correlate(atlas, validation)))
    return atlas.with_evidence({"validation": (validation, facts)})


def run(folder, capsys, draws=20_000, n_cells=24):
    """What the notebook prints; its cells run here, so that what is wrong can be put into headatlas."""
    names = {"__name__": "referee"}
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        # A plot changes matplotlib for other tests; tests/test_examples.py runs it in a process of its own.
        if cell["cell_type"] == "code" and "plt.show" not in "".join(cell["source"]):
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= {"model": folder.parent / "model", "atlas_folder": folder, "draws": draws, "n_cells": n_cells}
    return capsys.readouterr().out


def test_the_notebook_agrees_with_the_atlas(place, capsys):
    printed = run(place / "atlas", capsys)
    for words in AGREE:
        assert words in printed, words
    assert "adds it" not in printed


def times(function, factor):
    """The function with its result (or the numbers in it) multiplied."""

    def wrong(*arguments, **options):
        found = function(*arguments, **options)
        return tuple(each * factor for each in found) if isinstance(found, tuple) else found * factor

    return wrong


WRONG = {
    "intervals": (value, "wilson_interval", times(value.wilson_interval, 1.001)),
    "q-values": (value, "benjamini_hochberg", times(value.benjamini_hochberg, 0.99)),
    "the limit of q-values": (value, "MAX_Q", 1.1),
    "the least excess": (value, "MIN_EXCESS", 0.8),
    "what layers explain": (arrangements, "explained", times(arrangements.explained, 1.01)),
    "p of the layers": (arrangements, "p_from_draws", lambda n, of: (1 + n) / (2 + 2 * of)),
    "the boundary": (boundaries, "loglik", times(boundaries.loglik, 1.01)),
    "p of the boundary": (boundaries, "p_from_draws", lambda n, of: 0.3 + n / of),
    "Holm's method": (boundaries, "holm", lambda p: p),
    "meetings": (meetings, "two_sided", lambda distribution, n: float(distribution[n:].sum())),
    "Holm's method for meetings": (meetings, "holm", lambda p: p),
    "the limits of reading": (reading, "MIN_EXCESS", 0.8),
    "the bootstrap": (correlations, "DRAWS", 3),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_number_of_headatlas_stops_it(place, capsys, monkeypatch, name):
    module, what, wrong = WRONG[name]
    monkeypatch.setattr(module, what, wrong)
    with pytest.raises(AssertionError):
        run(place / "atlas", capsys, n_cells=0)


def test_a_wrong_correlation_stops_it(place, capsys, tmp_path):
    atlas = load_atlas(place / "atlas")
    facts = atlas.manifest.evidence.validation
    first, *others = facts.correlations
    facts = replace(facts, correlations=(replace(first, pearson=first.pearson - 0.01), *others))
    save_atlas(atlas.with_evidence({"validation": (atlas.evidence("validation"), facts)}), tmp_path / "atlas")
    (tmp_path / "model").symlink_to(place / "model")
    with pytest.raises(AssertionError, match="largest difference"):
        run(tmp_path / "atlas", capsys, n_cells=0)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("p_value", lambda p: np.where(p < 1, p / 100, p), "simulated"),
        ("chance", lambda level: np.where(level > 0, level + 1e-6, level), "largest difference"),
    ],
)
def test_a_wrong_column_stops_it(place, capsys, tmp_path, column, change, message):
    atlas = load_atlas(place / "atlas")
    data = atlas.data.copy()
    data[column] = data[column].copy(data=change(data[column].values))
    save_atlas(replace(atlas, data=data), tmp_path / "atlas")
    (tmp_path / "model").symlink_to(place / "model")
    with pytest.raises(AssertionError, match=message):
        run(tmp_path / "atlas", capsys)


def test_what_shared_words_do_is_told_for_a_whole_atlas(place, capsys, monkeypatch):
    """Relations whose words differ keep their decisions; cities share countries."""
    tool = load_tool("shared_words")
    monkeypatch.setattr(
        "sys.argv", ["shared_words.py", str(place / "atlas"), "--model", str(place / "model"), "--draws", "3000"]
    )
    tool.main()
    printed = capsys.readouterr().out
    named = int((load_atlas(place / "atlas").above() & load_atlas(place / "atlas").beyond_chance()).sum())
    (last,) = (line for line in printed.splitlines() if line.startswith("| all |"))
    assert last.split(" | ")[4] == str(named) and f"clusters: of {named} cells" in printed
    changed = [line for line in printed.splitlines() if line.startswith("| `")]
    assert all("city_to_country" in line for line in changed)
