"""The manifest of a map: which model was read, which relations were scored, how, and with what it was checked."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.atlas import Manifest
from headatlas.atlas.manifest import (
    ChanceFacts,
    CopyingFacts,
    InputFacts,
    LayerCheckFacts,
    ModelFacts,
    RelationFacts,
    RelationsFacts,
    RunFacts,
    SelfCheckFacts,
    SettingsFacts,
    ToolFacts,
)
from headatlas.measuring.session import Session, validity_facts
from headatlas.relations import BUILTIN_VERSION, EncodedRelation, Relation, set_hash
from headatlas.settings import MIN_PAIRS, MIN_UNCOPIED, Settings

if TYPE_CHECKING:
    from headatlas.architectures import LayerCheck
    from headatlas.measuring.prefix import Examination

COPIERS = ("embedding", "row of the unembedding", "input of the layer's heads")
"""Vectors that `headatlas.scoring.Copying` puts in the place of a head's output."""

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "gguf", "numpy")


def make_manifest(
    session: Session,
    settings: Settings,
    relations: RelationsFacts,
    identity: dict[str, Any],
    run: RunFacts,
    *,
    chance: bool,
    underflow: tuple[str, ...],
    checks: list[LayerCheck] | None,
    examination: Examination | None,
    input_facts: InputFacts | None,
) -> Manifest:
    """The manifest of a map.

    Args:
        identity: two runs with the same one make the same atlas.
        chance: whether chance levels and copying were measured.
        underflow: names of the heads whose output float32 rounds to zeros.
        checks: of the circuits; None if they were not compared.
        examination: of the prefix; None without one.
        input_facts: how far the input is from what the model's own layers hand to the heads; None if not compared.
    """
    from datetime import UTC, datetime

    return Manifest(
        tool=ToolFacts("headatlas", __version__),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measure="weights",
        label=settings.label(session.heads.d_vocab),
        identity=identity,
        model=replace(_model_facts(session), underflow=underflow),
        settings=SettingsFacts(**asdict(settings), min_pairs=MIN_PAIRS),
        relations=relations,
        self_check=None if checks is None else _check_facts(checks),
        prefix=None if examination is None else examination.facts(),
        chance=_chance_facts() if chance else None,
        copying=CopyingFacts(COPIERS, MIN_UNCOPIED) if chance else None,
        packages=_versions(),
        run=run,
        input=input_facts,
    )


def _model_facts(session: Session) -> ModelFacts:
    model = session.heads
    return ModelFacts(
        name=model.name,
        source=session.checkpoint.source,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        n_kv_heads=model.n_kv_heads if model.alike else None,
        d_model=model.d_model,
        d_head=model.d_head if model.alike else None,
        d_vocab=model.d_vocab,
        model_type=model.model_type,
        read_by="entry" if model.has_entry else "module structure",
        fingerprint=session.fingerprint,
        note=model.note,
        validity=validity_facts(model),
    )


def _check_facts(checks: list[LayerCheck]) -> SelfCheckFacts:
    return SelfCheckFacts(
        max(check.error for check in checks),
        tuple(LayerCheckFacts(tuple(each.tried), tuple(each.layers), each.error, each.scaled) for each in checks),
    )


def _chance_facts() -> ChanceFacts:
    from headatlas.scoring.chance import FEWEST_HITS, RE_PAIRINGS

    return ChanceFacts(FEWEST_HITS, RE_PAIRINGS)


def relations_facts(
    chosen: list[Relation], encoded: list[EncodedRelation], builtin: bool, added: bool
) -> RelationsFacts:
    """The relations of a map, and how many pairs its tokenizer keeps.

    Args:
        builtin, added: whether the built-in relations were used, and the user's own in addition.
    """
    return RelationsFacts(
        set="built-in" + " and the user's" * added if builtin else "the user's",
        version=BUILTIN_VERSION if builtin else None,
        hash=set_hash(chosen),
        items=tuple(
            RelationFacts(
                relation=each.name,
                category=each.relation.category,
                measurable=each.measurable,
                k=each.k,
                in_file=len(each.relation.pairs),
                pairs=len(each.pairs),
                duplicates=each.count_dropped("duplicate"),
                source_dropped=each.count_dropped("source"),
                target_dropped=each.count_dropped("target"),
                is_copying=each.source_ids == each.target_ids,
                description=each.relation.description,
                source=each.relation.source,
                license=each.relation.license,
                hash=each.relation.hash,
            )
            for each in encoded
        ),
    )


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
