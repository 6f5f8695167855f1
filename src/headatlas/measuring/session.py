"""One model for all that a run does with it: opened, tokenised and fingerprinted once, then handed on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import MANIFEST
from headatlas.atlas.manifest import ValidityFacts
from headatlas.checkpoints.open import DEMO
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring.own_maps import model_of
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.settings import CONTEXTUALIZE_OF, DEFAULT_PROFILE, checked_profile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from headatlas.architectures import HeadModel, Terms
    from headatlas.atlas import Atlas
    from headatlas.checkpoints.checkpoint import Checkpoint
    from headatlas.measuring.vocabulary import Vocabulary
    from headatlas.relations import EncodedRelation, Relation


def is_atlas_folder(source: str | Path | None) -> bool:
    """Whether a source that may be a model or an atlas is the folder of an atlas; `demo` is always the demo model."""
    return source is not None and source != DEMO and (Path(source) / MANIFEST).is_file()


class Session:
    """A model and what is read of it: each part is made when it is first asked for, and at most once.

    Args:
        source: what `open_checkpoint` accepts; default: the demo model.
        adapter: folder of a LoRA adapter.
        terms: what is counted in addition to the OV circuits; default: nothing, or, for the profile `alone`, all terms
            that the model has.
        profile: the named set of settings, one of `headatlas.settings.PROFILES`.
        contextualize: what the heads read, one of `headatlas.settings.CONTEXTUALIZE`; default: the profile's.
        progress: called while weights are transferred and fingerprinted.
    """

    def __init__(
        self,
        source: str | Path | None = None,
        adapter: str | Path | None = None,
        terms: Terms | None = None,
        profile: str = DEFAULT_PROFILE,
        contextualize: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.source: str | Path = DEMO if source is None else source
        self.adapter, self.terms, self.profile, self.progress = adapter, terms, checked_profile(profile), progress
        self.contextualize = contextualize or CONTEXTUALIZE_OF[profile]

    @classmethod
    def of_atlas(
        cls,
        atlas: Atlas,
        source: str | Path | None = None,
        adapter: str | Path | None = None,
        progress: Progress | None = None,
        check: bool = True,
    ) -> Session:
        """The model that an atlas was made of, with the terms of its scores.

        Args:
            source: where the model is now; default: where the user's own map read it. The place that an atlas names is
                not opened, since an atlas can come from anybody.
            adapter: the LoRA adapter that the model was mapped with.
            check: compare its fingerprint now, which reads all weights; otherwise call `check_atlas` before they are
                used, after what can be refused without them.

        Raises:
            AtlasError: the atlas holds imported scores, is not the user's own, its model is no longer there, or this is
                another model.
        """
        from headatlas.architectures import Terms

        known, where = atlas.manifest.model, atlas.folder or atlas.name
        if atlas.measure != "weights" or known.fingerprint is None:
            raise AtlasError(
                f"{where}: expected an atlas of a model's weights, found imported scores ({atlas.measure}). Make one "
                f"with `headatlas map`."
            )
        settings = atlas.manifest.settings.settings
        terms = None if settings.profile == "alone" else Terms.of_settings(settings)
        source = model_of(atlas) if source is None else source
        session = cls(source, adapter, terms, settings.profile, settings.contextualize, progress)
        if check:
            session.check_atlas(atlas)
        return session

    def check_atlas(self, atlas: Atlas) -> None:
        """Refuse an atlas of another model.

        Raises:
            AtlasError: its fingerprint is not that of this model.
        """
        known, where = atlas.manifest.model.fingerprint or "unknown", atlas.folder or atlas.name
        if self.fingerprint != known:
            raise AtlasError(
                f"{self.checkpoint.source}: expected the model of {where} (fingerprint {known[:12]}), found another "
                f"({self.fingerprint[:12]}). Name its model with --model, and its adapter, if it has one, with "
                f"--adapter."
            )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        from headatlas.architectures.open import open_checkpoint

        return open_checkpoint(self.source, self.adapter)

    @cached_property
    def heads(self) -> HeadModel:
        """The model's heads; no weights are read yet."""
        from headatlas.architectures import NO_TERMS, open_model

        terms = NO_TERMS if self.terms is None and self.profile != "alone" else self.terms
        return open_model(self.checkpoint, terms, self.contextualize)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.checkpoint.load_tokenizer()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The text of each token."""
        from headatlas.measuring.vocabulary import read_vocabulary

        return read_vocabulary(self.tokenizer, self.heads.d_vocab)

    @cached_property
    def fetched_heads(self) -> HeadModel:
        """`heads`, after the weights that a map needs were transferred to this machine."""
        self.checkpoint.fetch(self.heads.stored(self.heads.parts()), report_stage(self.progress, Stage.BYTES))
        return self.heads

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all weights that a map reads."""
        return self.fetched_heads.fingerprint(report_stage(self.progress, Stage.FINGERPRINT))


def validity_facts(model: HeadModel) -> tuple[ValidityFacts, ...]:
    """Each validity that occurs in a model, with its layers."""
    return tuple(ValidityFacts(each["kind"], each["why"], tuple(each["layers"])) for each in model.validity_by_layers())


def relations_of(
    atlas: Atlas,
    tokenizer: PreTrainedTokenizerBase,
    d_vocab: int,
    names: Iterable[str] | None = None,
    add_relations: Any = None,
) -> tuple[dict[str, EncodedRelation], list[str]]:
    """The relations that an atlas measured, encoded as they were for its scores.

    Args:
        names: relations of the atlas; default: all.
        add_relations: the relations that are not built in, or the files and folders that hold them.

    Returns:
        Relations by name, in the atlas's order; and the names of those whose pairs are not available.

    Raises:
        SettingsError: the pairs of a relation in `names` are not available.
    """
    from headatlas.relations import choose_relations, encode_relations
    from headatlas.settings import Settings

    settings = atlas.manifest.settings.settings
    kept = Settings(k=settings.k, k_copying=settings.k_copying)
    known: list[Relation] = choose_relations(None, None)
    if add_relations is not None:
        own = choose_relations(add_relations, None)
        known = [relation for relation in known if relation.name not in {each.name for each in own}] + own
    encoded = {each.name: each for each in encode_relations(known, tokenizer, d_vocab, kept)}
    hashes = {item.relation: item.hash for item in atlas.manifest.relations.items}
    wanted = [name for name in atlas.relations if names is None or name in set(names)]
    there = {name: encoded[name] for name in wanted if name in encoded and encoded[name].relation.hash == hashes[name]}
    missing = [name for name in wanted if name not in there]
    if missing and (names is not None or not there):
        raise SettingsError(
            f"relation: the pairs of {missing[0]!r} are not those of a built-in relation. Name the file that the atlas "
            f"was made with by --add-relations."
        )
    return there, missing
