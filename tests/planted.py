"""A tiny model in which one head was built to map a known relation, and nothing else can."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from headatlas.architectures import head_inputs, open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.measuring.prefix import choose_prefix
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.session import Session
from models import make_model, save_model

LAYER, HEAD = 1, 2
N_PAIRS = 37
WORDS = [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]
PAIRS = [[WORDS[number], WORDS[number + 41]] for number in range(N_PAIRS)]


def make_planted(folder: Path, sign: int = 1, pairs=PAIRS, words=WORDS, profile="maps") -> Path:
    """Save a Llama-like model whose L1H2 maps every source of at most 40 pairs to its target; `sign` -1 suppresses.

    It maps what the heads read with the profile.
    """
    model = make_model("llama", hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=40)
    with torch.no_grad():
        W_U = model.lm_head.weight
        # Rows of one length: no token has a higher product with a row than that row itself.
        W_U /= W_U.norm(dim=1, keepdim=True)
        if profile == "alone":
            model.model.norm.weight.fill_(1)
    layer = model.model.layers[LAYER].self_attn
    save_model(model, folder, words)
    session = Session(folder, profile=profile)
    ids = lambda column: torch.tensor([1 + words.index(pair[column]) for pair in pairs])  # noqa: E731
    prefix = choose_prefix(session, set(ids(0).tolist()))
    ((_, x),) = head_inputs(session.heads, ids(0), [LAYER], None if prefix is None else prefix.token)
    x = x[:, : session.heads.d_model]
    with torch.no_grad():
        W_V = torch.linalg.pinv(x.double()).float()
        values = layer.v_proj.weight.view(2, 40, 64)
        values[1] = 0
        values[1, : len(pairs)] = W_V.T
        if profile == "alone":
            layer.v_proj.bias.zero_()
        layer.o_proj.weight.view(64, 4, 40)[:, HEAD, : len(pairs)] = sign * W_U[ids(1)].T
    return save_model(model, folder, words)


def write_relation(path: Path, pairs=PAIRS, **content) -> Path:
    """A relation file; default: the planted relation, with k = 1."""
    path.write_text(json.dumps({"category": "Planted", "k": 1, "pairs": pairs} | content), "utf-8")
    return path


def plant_values(folder, pairs=PAIRS, by_weights=False):
    """Let L1H2 of the planted model map its words in a text: what layer 0's attention writes is nothing.

    With `by_weights` it maps the input of the static scores too, and words that it does not know to nothing.
    """
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in tensors:
        if name.startswith(("model.layers.0.self_attn.o_proj", f"model.layers.{LAYER}.self_attn.v_proj.bias")):
            tensors[name].zero_()
    save_file(tensors, path, metadata={"format": "pt"})
    opened = open_model(open_checkpoint(folder))
    running, seen = RunningModel(opened), []
    running.base.get_submodule(f"layers.{LAYER}.self_attn").register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["hidden_states"][:, 0].detach()), with_kwargs=True
    )
    ids = torch.tensor([1 + WORDS.index(source) for source, _ in pairs])
    running.last_logits(torch.cat([ids, torch.zeros(1, dtype=torch.long)])[:, None])
    x, wanted = seen[0][:-1], torch.eye(len(pairs))
    if by_weights:
        x = torch.cat([seen[0], opened.first_mlp(opened.W_E(ids))])
        wanted = torch.cat([wanted, torch.zeros(1, len(pairs)), wanted])
    values = tensors[f"model.layers.{LAYER}.self_attn.v_proj.weight"].view(2, 40, 64)
    values[1] = 0
    values[1, : len(pairs)] = (torch.linalg.pinv(x.double()) @ wanted.double()).float().T
    save_file(tensors, path, metadata={"format": "pt"})
