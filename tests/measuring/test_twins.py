"""The same weights give the same map, score by score, from whatever they are read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gguf_models
import headatlas
from headatlas.architectures.open import open_checkpoint
from headatlas.relations import Relation
from headatlas.settings import PROFILES
from served import serve

FIRST, LETTERS = "bcdfghjkl", [chr(code) for code in range(97, 123)]
WORDS = [first + second for first in FIRST for second in "aeiouwx"]
CASES = ("llama", "llama-tied", "gpt2", "gpt_neox", "mixtral", "deepseek_v3")
"""Not Gemma: its GGUF files keep norms plus one, which rounds them."""


N_ROUNDINGS = 64
"""A relative error below this many machine epsilons is rounding."""


def add_tokenizer(writer, n_words):
    """Each word behind a space is one token."""
    tokens = ["<|end|>", *LETTERS, "Ġ", *(f"Ġ{first}" for first in FIRST), *(f"Ġ{word}" for word in WORDS)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + [f"<{number}>" for number in range(n_words - len(tokens))])
    writer.add_token_types([3] + [1] * (n_words - 1))
    writer.add_token_merges([f"Ġ {first}" for first in FIRST] + [f"Ġ{word[0]} {word[1]}" for word in WORDS])
    writer.add_eos_token_id(0)


def to_torch_file(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


@pytest.fixture
def twins(request, tmp_path, monkeypatch):
    """The same model in all ways, by their names."""
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_models, "add_tokenizer", add_tokenizer)
    model = gguf_models.make_model(request.param)
    found = {"GGUF": gguf_models.write(model, request.param, tmp_path / "model.gguf")}
    tokenizer = open_checkpoint(found["GGUF"]).load_tokenizer()
    for name in ("one file", "shards", "shards without an index", "torch file"):
        found[name] = tmp_path / name
        model.save_pretrained(found[name], **({"max_shard_size": "30KB"} if "shards" in name else {}))
        tokenizer.save_pretrained(found[name])
    (found["shards without an index"] / "model.safetensors.index.json").unlink()
    to_torch_file(found["torch file"])
    with serve(tmp_path / "shards") as served:
        yield found | {"remote": served.url}


def without_errors(self_check):
    """What was checked, without the sizes of rounding errors, which differ between processors and alignments."""
    return [(layer.tried, layer.layers, layer.scaled) for layer in self_check.layers]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("twins", CASES, indirect=True)
def test_the_same_weights_give_the_same_map(twins, profile):
    order = np.random.default_rng(0).permutation(len(WORDS))
    relations = [
        Relation("shuffled", tuple((WORDS[i], WORDS[j]) for i, j in enumerate(order)), k=9),
        Relation("same", tuple((word, word) for word in WORDS), k="copying"),
    ]
    atlases = {
        name: headatlas.map_heads(source, relations=relations, profile=profile) for name, source in twins.items()
    }
    expected = atlases.pop("one file")
    assert expected.data["hits"].sum() > 10 and expected.data["suppression_hits"].sum() > 10
    assert expected.data.sizes["relation"] == 2
    for name, atlas in atlases.items():
        assert atlas.data.identical(expected.data), name
        assert atlas.pair_hits.equals(expected.pair_hits), name
        assert atlas.manifest.model.fingerprint == expected.manifest.model.fingerprint, name
        assert without_errors(atlas.manifest.self_check) == without_errors(expected.manifest.self_check), name
        assert atlas.manifest.self_check.largest_error < N_ROUNDINGS * torch.finfo(torch.float32).eps, name
        assert atlas.manifest.identity == expected.manifest.identity, name
