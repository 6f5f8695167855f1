"""What a map of a model would take, estimated before any weight is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas.json_facts import write_facts
from headatlas.atlas.manifest import ValidityFacts
from headatlas.measuring import speed
from headatlas.measuring.session import validity_facts
from headatlas.relations import EncodedRelation, Relation
from headatlas.settings import Settings

if TYPE_CHECKING:
    from headatlas.architectures import HeadModel

LOOKED_AT = 0.031
"""Share of all logits that the search computes, as measured on the demo model with the built-in relations."""

OVERHEAD = 0.75
"""Time of the search over that of as many products of outputs with W_U, measured the same way."""

CHANCE = 1.8
"""Time of the chance levels over that of the scores, measured the same way."""

PROGRAM = 450_000_000
"""Bytes that the program and its libraries take before any weight is read."""


@dataclass(frozen=True)
class Plan:
    """What a map would take; sizes in bytes.

    Args:
        name, source, note: from the checkpoint; model_type: of the language model.
        read_by: `entry` of a known family, or `module structure`, which the self-check has to confirm.
        n_layers, n_heads: counts; `n_kv_heads` and `d_head` are None where layers differ.
        validity: of the heads: `kind`, `why` and `layers` of each that occurs.
        to_read: bytes of the tensors that are needed; `size`: bytes of all.
        memory: peak memory, an estimate.
        chance_seconds: for the chance levels, an estimate; `--no-chance` saves them.
        salient_seconds: for `headatlas salient`, an estimate.
        seconds: for the scores on this machine's processors, an estimate from its speed in matrix products, without
            reading and transfer.
        measurable, not_measurable: names of relations.
        n_pairs, n_sources: pairs to be scored, and distinct source tokens among them.
    """

    name: str
    source: str
    model_type: str
    note: str | None
    read_by: str
    n_layers: int
    n_heads: int
    n_kv_heads: int | None
    d_head: int | None
    d_model: int
    d_vocab: int
    validity: tuple[ValidityFacts, ...]
    to_read: int
    size: int
    memory: int
    seconds: float
    chance_seconds: float
    salient_seconds: float
    measurable: list[str]
    not_measurable: list[str]
    n_pairs: int
    n_sources: int

    def as_dict(self) -> dict[str, Any]:
        return write_facts(self)


def plan_map(
    model: str | Path | None = None,
    *,
    relations: Iterable[Relation] | str | Path | Iterable[str | Path] | None = None,
    add_relations: Iterable[Relation] | str | Path | Iterable[str | Path] | None = None,
    adapter: str | Path | None = None,
    threads: int | None = None,
) -> Plan:
    """Say what `map_heads` with the same arguments would read and take; weights are not read.

    Raises:
        HeadatlasError: the model cannot be mapped; the sentence says why.
    """
    from headatlas.architectures import open_model
    from headatlas.architectures.open import open_checkpoint
    from headatlas.checkpoints.open import DEMO
    from headatlas.engines.devices import count_threads
    from headatlas.measuring.salient import estimate_salient, estimated_work
    from headatlas.relations import choose_relations, encode_relations

    chosen = choose_relations(relations, add_relations)
    checkpoint = open_checkpoint(DEMO if model is None else model, adapter)
    opened = open_model(checkpoint, believe_structure=True)
    settings = Settings.of_profile(opened.d_vocab)
    encoded = encode_relations(chosen, checkpoint.load_tokenizer(), opened.d_vocab, settings)
    measured = [relation for relation in encoded if relation.measurable]
    sources = {token for relation in measured for token in relation.source_ids}
    seconds = _seconds(opened, len(sources), count_threads(threads)) if sources else 0.0
    n_kv_heads, d_head = (opened.n_kv_heads, opened.d_head) if opened.alike else (None, None)
    work = estimated_work(opened.n_layers, opened.n_heads, n_kv_heads, opened.d_model, d_head, opened.d_vocab)
    return Plan(
        name=checkpoint.name,
        source=checkpoint.source,
        model_type=opened.model_type,
        note=checkpoint.note,
        read_by="entry" if opened.has_entry else "module structure",
        n_layers=opened.n_layers,
        n_heads=opened.n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        d_model=opened.d_model,
        d_vocab=opened.d_vocab,
        validity=validity_facts(opened),
        to_read=_bytes_to_read(opened),
        size=checkpoint.size,
        memory=_memory(opened, measured, len(sources), count_threads(threads)),
        seconds=seconds,
        chance_seconds=CHANCE * seconds,
        salient_seconds=estimate_salient(work, count_threads(threads)),
        measurable=[relation.name for relation in measured],
        not_measurable=[relation.name for relation in encoded if not relation.measurable],
        n_pairs=sum(len(relation.pairs) for relation in measured),
        n_sources=len(sources),
    )


def _bytes_to_read(model: HeadModel) -> int:
    """Rows of one tensor that several parts need count once."""
    checkpoint, wanted = model.checkpoint, {}
    for name, rows in model.stored(model.parts()):
        shape = checkpoint.shape(name)
        n_rows = shape[0] if shape else 1
        start, stop, _ = (rows or slice(None)).indices(n_rows)
        share = (stop - start) / n_rows
        wanted[name] = max(wanted.get(name, 0.0), share * checkpoint.n_bytes(name))
    return round(sum(wanted.values()))


def _memory(model: HeadModel, measured: list[EncodedRelation], n_sources: int, threads: int) -> int:
    """Inputs, and either the first MLP or, later, the unembedding, two layers and the search's own arrays; float32."""
    from headatlas.architectures.parts import Role

    tree = model.tree
    of_layers = [0] * model.n_layers
    first_mlp = 0
    for part in model.parts():
        count = _numbers(tree.shape(part.parameter))
        if part.layer is not None:
            of_layers[part.layer] += count
        elif part.role is Role.MODULE:
            first_mlp += count
    W_U = model.d_vocab * model.d_model
    inputs = 2 * n_sources * model.d_model
    n_pairs = sum(len(relation.pairs) for relation in measured)
    search = threads * (n_sources * (model.d_model + 3 * 1536) + 8 * n_pairs) + 2 * model.n_heads * n_pairs
    return PROGRAM + 4 * (inputs + max(W_U + 2 * max(of_layers) + search, 2 * first_mlp))


def _numbers(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _seconds(model: HeadModel, n_sources: int, threads: int) -> float:
    layers = [layer for layer in range(model.n_layers) if model.has_heads(layer)]
    values = model.d_model * model.d_head * (model.n_kv_heads + model.n_heads)
    logits = LOOKED_AT * model.d_vocab * model.d_model * model.n_heads
    return OVERHEAD * len(layers) * 2 * n_sources * (values + logits) / speed.products_per_second(threads)
