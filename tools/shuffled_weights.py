"""Write a model whose weights are those of another one in random order: a control that has no functions.

    python tools/shuffled_weights.py MODEL FOLDER

Each matrix keeps its numbers, so their spread and norm, and loses what it does; norms and biases stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.session import Session


def main(source: str, folder: str) -> None:
    """Shuffle the weights of a model with tied embeddings, and save it with its tokenizer."""
    session = Session(source)
    heads = session.heads
    model: torch.nn.Module = AutoModelForCausalLM.from_config(heads.tree.config)
    model.base_model.load_state_dict(RunningModel(heads, "cpu").base.state_dict())
    if not model.config.tie_word_embeddings:
        raise SystemExit(f"{source}: expected tied embeddings, found an unembedding of its own.")
    model.tie_weights()
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=numbers)].view_as(weight))
    model.save_pretrained(folder)
    session.tokenizer.save_pretrained(folder)
    print(f"Wrote {Path(folder)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
