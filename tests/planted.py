"""A tiny model in which one head was built to map a known relation, and nothing else can."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from headatlas.architectures import open_model
from headatlas.checkpoints import open_checkpoint
from models import make_model, save_model

LAYER, HEAD = 1, 2
N_PAIRS = 37
WORDS = [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]
PAIRS = [[WORDS[number], WORDS[number + 41]] for number in range(N_PAIRS)]


def make_planted(folder: Path, sign: int = 1) -> Path:
    """Save a Llama-like model whose L1H2 maps every source of PAIRS to its target; `sign` -1 suppresses them."""
    model = make_model("llama", hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=40)
    with torch.no_grad():
        W_U = model.lm_head.weight
        # Rows of one length: no token has a higher product with a row than that row itself.
        W_U /= W_U.norm(dim=1, keepdim=True)
    save_model(model, folder, WORDS)
    opened = open_model(open_checkpoint(folder))
    ids = lambda column: torch.tensor([1 + WORDS.index(pair[column]) for pair in PAIRS])  # noqa: E731
    x = opened.first_mlp(opened.W_E(ids(0)))
    layer = model.model.layers[LAYER].self_attn
    with torch.no_grad():
        W_V = torch.linalg.pinv(x.double()).float()
        values = layer.v_proj.weight.view(2, 40, 64)
        values[1] = 0
        values[1, :N_PAIRS] = W_V.T
        layer.o_proj.weight.view(64, 4, 40)[:, HEAD, :N_PAIRS] = sign * W_U[ids(1)].T
    return save_model(model, folder, WORDS)


def write_relation(path: Path, pairs=PAIRS, **content) -> Path:
    """A relation file; default: the planted relation, with k = 1."""
    path.write_text(json.dumps({"category": "Planted", "k": 1, "pairs": pairs} | content))
    return path
