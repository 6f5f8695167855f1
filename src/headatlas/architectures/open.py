"""Open a model: joins the files, which know tensors only, with the families, which name and arrange them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from headatlas.architectures.families import Validity, find_family
from headatlas.architectures.gguf.family import find_family as find_gguf_family
from headatlas.architectures.heads import HeadModel
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.structure import propose_families
from headatlas.architectures.terms import NO_TERMS, Terms
from headatlas.architectures.unknown_family import choose_family, refuse_unknown_inputs, refuse_unknown_layers
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
            an address (`https://host/folder`). A source that exists locally, or looks like a path, is never looked up
            elsewhere; a local folder named `demo` is opened as `./demo`.
        adapter: the folder of a LoRA adapter, which is added to the tensors that it changes.

    Raises:
        CheckpointError: nothing was found, or it cannot be read.
    """
    return opening.open_checkpoint(source, adapter, FAMILIES)


def open_model(
    checkpoint: Checkpoint,
    terms: Terms | None = NO_TERMS,
    contextualize: str = "first-mlp",
    believe_structure: bool = False,
) -> HeadModel:
    """The heads of a checkpoint, by the entry of its family or, without one, by its module structure.

    Args:
        terms: what is counted in addition to the OV circuits; None: all terms that the model has.
        contextualize: what the heads read, one of `headatlas.settings.CONTEXTUALIZE`.
        believe_structure: take the first proposal for a model type without an entry, instead of letting the self-check
            decide; for a plan, which reads no weights.

    Raises:
        ArchitectureError: the model is not supported, or the config contradicts itself.
        SettingsError: a requested term does not exist in the model.
    """
    tree = ModuleTree(checkpoint)
    family = find_family(tree.config.model_type)
    if family is None and believe_structure:
        refuse_unknown_inputs(tree)
        model = HeadModel(tree, replace(next(propose_families(tree)), validity=_to_be_checked), terms, contextualize)
        refuse_unknown_layers(model)
        return model
    return HeadModel(tree, family or choose_family(tree), terms, contextualize)


def is_transposed(model_type: str, module: str) -> bool:
    """Whether a module of a family stores its weight as (in, out)."""
    return model_type in TRANSPOSED_FAMILIES and module.rpartition(".")[2] in TRANSPOSED


FAMILIES = Families(find_gguf_family, is_transposed)


def _to_be_checked(config: object, layer: int) -> Validity:
    return Validity("not known", "the self-check decides")
