"""From an atlas back to its model and its relations, which have to be the very ones that were mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.errors import AtlasError, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from headatlas.architectures import HeadModel
    from headatlas.atlas import Atlas
    from headatlas.relations import EncodedRelation, Relation


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
        AtlasError: the atlas was made of others' scores, or of another model, or its model is no longer there.
    """
    from headatlas.architectures import Terms, open_model
    from headatlas.architectures.open import open_checkpoint

    known, where = atlas.manifest["model"], atlas.folder or atlas.name
    if atlas.measure != "weights" or "fingerprint" not in known:
        raise AtlasError(
            f"{where}: expected an atlas of a model's weights, found imported scores ({atlas.measure}). Make one with "
            f"`headatlas map`."
        )
    checkpoint = open_checkpoint(_source(known["source"], where) if model is None else model, adapter)
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


def _source(known: str, where: str | Path) -> str | Path:
    """Where an atlas's model is now: where it was, or, if it is the demo model, in this environment."""
    from headatlas.checkpoints.open import DEMO, DEMO_FILE, looks_like_a_path
    from headatlas.checkpoints.remote.names import is_remote

    if is_remote(known) or not looks_like_a_path(known) or Path(known).exists():
        return known
    if Path(known).name == DEMO_FILE:
        return DEMO
    raise AtlasError(f"{where}: its model was at {known}, where nothing is now. Say where it is with --model.")


def relations_of(
    atlas: Atlas,
    tokenizer: PreTrainedTokenizerBase,
    d_vocab: int,
    names: Iterable[str] | None = None,
    add_relations: Any = None,
) -> tuple[dict[str, EncodedRelation], list[str]]:
    """The relations that the atlas measured, encoded as they were then.

    Args:
        names: only these, which the atlas measured.
        add_relations: those that are not built in: relations, or files and folders of them.

    Returns:
        Relations by name, in the atlas's order, and the names of those whose pairs are not known here.

    Raises:
        SettingsError: a name whose pairs are not known here.
    """
    from headatlas.relations import choose_relations, encode_relations
    from headatlas.settings import Settings

    kept = {name: atlas.manifest["settings"][name] for name in ("k", "k_copying")}
    known: list[Relation] = choose_relations(None, None)
    if add_relations is not None:
        own = choose_relations(add_relations, None)
        known = [relation for relation in known if relation.name not in {each.name for each in own}] + own
    encoded = {each.name: each for each in encode_relations(known, tokenizer, d_vocab, Settings(**kept))}
    hashes = {item["relation"]: item.get("hash") for item in atlas.manifest["relations"]["items"]}
    wanted = [name for name in atlas.relations if names is None or name in set(names)]
    there = {name: encoded[name] for name in wanted if name in encoded and encoded[name].relation.hash == hashes[name]}
    missing = [name for name in wanted if name not in there]
    if missing and (names is not None or not there):
        raise SettingsError(
            f"relation: the pairs of {missing[0]!r} are not those of a built-in relation. Name the file that the atlas "
            f"was made with by --add-relations."
        )
    return there, missing
