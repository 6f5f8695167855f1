"""From an atlas back to its model, which has to be the very one that was mapped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.errors import AtlasError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from headatlas.architectures import HeadModel
    from headatlas.atlas import Atlas


def open_model_of(
    atlas: Atlas,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[HeadModel, PreTrainedTokenizerBase]:
    """The model that an atlas is of, and its tokenizer.

    Args:
        model: where it is now; default: where the atlas says.
        adapter: its LoRA adapter, if it was mapped with one.

    Raises:
        AtlasError: the atlas was made of others' scores, or of another model.
    """
    from headatlas.architectures import Terms, open_model
    from headatlas.checkpoints import open_checkpoint

    known, where = atlas.manifest["model"], atlas.folder or atlas.name
    if atlas.measure != "weights" or "fingerprint" not in known:
        raise AtlasError(
            f"{where}: expected an atlas of a model's weights, found imported scores ({atlas.measure}). Make one with "
            f"`headatlas map`."
        )
    checkpoint = open_checkpoint(known["source"] if model is None else model, adapter)
    settings = atlas.manifest["settings"]
    terms = Terms(*(bool(settings.get(name)) for name in ("value_bias", "attention_gain", "final_norm_gain")))
    heads = open_model(checkpoint, terms)
    checkpoint.fetch(heads.stored(heads.parts()))
    if (found := heads.fingerprint(progress)) != known["fingerprint"]:
        raise AtlasError(
            f"{checkpoint.source}: expected the model of {where} (fingerprint {known['fingerprint'][:12]}), found "
            f"another ({found[:12]}). Name its model with --model, and its adapter, if it has one, with --adapter."
        )
    return heads, checkpoint.load_tokenizer()
