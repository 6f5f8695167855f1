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
from headatlas.settings import CONTEXTUALIZE_OF, DEFAULT_PROFILE, Settings, checked_profile

if TYPE_CHECKING:
    from headatlas.architectures import HeadModel

FULL_ROWS = 0.08
"""Share of the sources for which the search computes all logits of a head. With this and CHANCE, the times are within a
factor of two of those measured on the demo model, Gemma 3 270M and the shapes of the benchmark."""

CHANCE = 1.5
"""Time of the chance levels and of copying over that of the scores."""

ALONE = 2.4
"""Time of a pass through the layers in float64 over that of as many products in float32, measured on the demo model."""

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
        input_seconds: for what the heads read, with the profile `alone`; an estimate.
        compare_seconds: for comparing the input with what the model's own layers hand to the heads, with other
            profiles; an estimate. It reads all weights; `--no-self-check` saves it. 0 for weights that are remote.
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
    input_seconds: float
    compare_seconds: float
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
    profile: str = DEFAULT_PROFILE,
    adapter: str | Path | None = None,
    threads: int | None = None,
) -> Plan:
    """Say what `map_heads` with the same arguments would read and take; weights are not read.

    Raises:
        HeadatlasError: the model cannot be mapped; the sentence says why.
    """
    from headatlas.architectures import NO_TERMS, open_model
    from headatlas.architectures.open import open_checkpoint
    from headatlas.checkpoints.open import DEMO
    from headatlas.engines.devices import count_threads
    from headatlas.measuring.assumed_input import N_TOKENS, why_not_compared
    from headatlas.measuring.salient import estimate_salient, estimated_work
    from headatlas.relations import choose_relations, encode_relations

    chosen = choose_relations(relations, add_relations)
    checkpoint = open_checkpoint(DEMO if model is None else model, adapter)
    terms = None if checked_profile(profile) == "alone" else NO_TERMS
    opened = open_model(checkpoint, terms, CONTEXTUALIZE_OF[profile], believe_structure=True)
    settings = Settings.of_profile(opened.d_vocab, profile)
    encoded = encode_relations(chosen, checkpoint.load_tokenizer(), opened.d_vocab, settings)
    measured = [relation for relation in encoded if relation.measurable]
    sources = {token for relation in measured for token in relation.source_ids}
    seconds = _seconds(opened, len(sources), count_threads(threads)) if sources else 0.0
    alone = opened.contextualize == "alone"
    n_compared = 0 if alone or why_not_compared(checkpoint) is not None else min(N_TOKENS, len(sources))
    n_kv_heads, d_head = (opened.n_kv_heads, opened.d_head) if opened.alike else (None, None)
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
        memory=_memory(opened, measured, len(sources), count_threads(threads), n_compared),
        seconds=seconds,
        chance_seconds=CHANCE * seconds,
        salient_seconds=estimate_salient(estimated_work(opened, alone), count_threads(threads)),
        input_seconds=_pass_seconds(opened, len(sources), count_threads(threads)) if alone else 0.0,
        compare_seconds=_pass_seconds(opened, 2 * n_compared, count_threads(threads)) if n_compared else 0.0,
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


def _memory(model: HeadModel, measured: list[EncodedRelation], n_sources: int, threads: int, n_compared: int) -> int:
    """Inputs, and either the first MLP or, later, the unembedding, two layers and the search's own arrays; float32.

    Where the input is compared, a whole layer is in memory before, and one of its weights in float64.
    """
    from headatlas.architectures.parts import Role
    from headatlas.architectures.streamed import SEQUENCES_AT_ONCE
    from headatlas.measuring.salient import MOST_ALONE, is_salient_wanted
    from headatlas.scoring.rank_search import COLUMNS_BYTES
    from headatlas.scoring.salient import LOGITS_AT_ONCE

    tree = model.tree
    of_layers = [
        sum(_numbers(tree.shape(part.parameter)) for part in model.parts_of(layer)) for layer in range(model.n_layers)
    ]
    alone = model.contextualize == "alone"
    of_input = sum(
        _numbers(tree.shape(part.parameter)) for part in model.parts() if not alone and part.role is Role.MODULE
    )
    W_U = model.d_vocab * model.d_model
    inputs = 2 * n_sources * model.d_model
    n_pairs = sum(len(relation.pairs) for relation in measured)
    search = threads * (n_sources * (model.d_model + 3 * 1536) + 8 * n_pairs) + 2 * model.n_heads * n_pairs
    # Products of a layer's W_O with the vocabulary, for the heads that are at work or all of them.
    search += min(COLUMNS_BYTES // 4, model.n_heads * model.d_head * model.d_vocab)
    if alone:
        # A layer's weights; and twice, as the C library keeps about as much of what is freed, the search, the residuals
        # in float64, and what the widest module computes for some of the sequences.
        layer = max(sum(map(_numbers, _layer_shapes(model, layer))) for layer in range(model.n_layers))
        widest = max(shape[0] for layer in range(model.n_layers) for shape in _layer_shapes(model, layer) if shape)
        n_words = n_sources
        if is_salient_wanted(model, None):
            n_words += min(MOST_ALONE, model.d_vocab)
            # Logits, and what is compared of them.
            search += 2 * LOGITS_AT_ONCE
        search = layer + 2 * (search + 2 * (4 * n_words * model.d_model + 3 * SEQUENCES_AT_ONCE * widest))
    compared = 0
    if n_compared:
        sizes = [[_numbers(shape) for shape in _layer_shapes(model, layer)] for layer in range(model.n_layers)]
        compared = max(sum(each) + 2 * max(each) for each in sizes)
    return PROGRAM + 4 * (inputs + max(W_U + 2 * max(of_layers) + search, 2 * of_input, compared))


def _layer_shapes(model: HeadModel, layer: int) -> list[tuple[int, ...]]:
    module = model.tree.base.get_submodule(f"{model.family.layers}.{layer}")
    return [tuple(value.shape) for value in module.state_dict().values()]


def _pass_seconds(model: HeadModel, n_tokens: int, threads: int) -> float:
    """Of a pass through all layers; of experts, a token passes through some."""
    from headatlas.architectures.empty_model import common

    n_experts = common(model.tree.config, "num_local_experts") or common(model.tree.config, "num_experts")
    chosen = common(model.tree.config, "num_experts_per_tok")
    products = 0.0
    for layer in range(model.n_layers):
        for shape in _layer_shapes(model, layer):
            is_expert = n_experts and chosen and len(shape) == 3 and shape[0] == n_experts
            products += _numbers(shape) * (chosen / n_experts if is_expert else 1)
    return ALONE * 2 * n_tokens * products / speed.products_per_second(threads)


def _numbers(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _seconds(model: HeadModel, n_sources: int, threads: int) -> float:
    """Of all values, and of the logits of some sources: of their values with `W_O @ W_U`, or of their outputs."""
    n_heads = sum(model.has_heads(layer) for layer in range(model.n_layers)) * model.n_heads
    rows = FULL_ROWS * n_sources
    logits = model.d_vocab * min(model.d_head * (model.d_model + rows), rows * model.d_model)
    values = n_sources * model.d_head * model.d_model * (1 + model.n_kv_heads / model.n_heads)
    return 2 * n_heads * (values + logits) / speed.products_per_second(threads)
