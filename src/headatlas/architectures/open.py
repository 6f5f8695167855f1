"""Open a model: files know tensors, and learn here which family names and arranges them how."""

from __future__ import annotations

from pathlib import Path

from headatlas.architectures.gguf.family import find_family
from headatlas.checkpoints import open as opening
from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.families import Families

TRANSPOSED_FAMILIES = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
TRANSPOSED = ("c_attn", "c_proj", "c_fc", "q_attn")
"""Modules of these families that store their weight as (in, out): transformers' Conv1D."""


def open_checkpoint(source: str | Path, adapter: str | Path | None = None) -> Checkpoint:
    """Open the demo model, a folder in Hugging Face layout, a `.gguf` file, a model on the hub or at an address.

    Args:
        source: `demo`, a path, a name on the hub (`gpt2`, `org/model`, `org/model@revision`, `org/model/file.gguf`) or
            an address (`https://host/folder`). What exists locally, or looks like a path, is never looked for
            elsewhere; a local folder named `demo` is opened as `./demo`.
        adapter: the folder of a LoRA adapter, which is added to the tensors that it changes.

    Raises:
        CheckpointError: there is nothing, or nothing that can be read.
    """
    return opening.open_checkpoint(source, adapter, FAMILIES)


def is_transposed(model_type: str, module: str) -> bool:
    """Whether a module of a family stores its weight as (in, out)."""
    return model_type in TRANSPOSED_FAMILIES and module.rpartition(".")[2] in TRANSPOSED


FAMILIES = Families(find_family, is_transposed)
