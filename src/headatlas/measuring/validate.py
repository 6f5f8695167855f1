"""Scores of the outputs of the running model's heads in texts, to compare with the scores of the weights."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.analysis.correlations import ByText, correlate
from headatlas.architectures.terms import Terms, check_terms
from headatlas.atlas import HITS_VARIABLES, SIDES
from headatlas.atlas.evidence import CONDITIONS, TOTAL_EFFECT, ValidationFacts
from headatlas.errors import ArchitectureError, SettingsError
from headatlas.measuring.output import EVIDENCE_FORMATS, add_evidence, save_pictures
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.run_folder import RunParts
from headatlas.measuring.running.contexts import Contexts, load_templates, make_contexts
from headatlas.measuring.running.effects import measure_effects
from headatlas.measuring.running.model import RunningModel, batches, running_packages
from headatlas.measuring.session import Session, relations_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from headatlas.architectures import HeadModel
    from headatlas.atlas import Atlas

PAIRS = 40
"""Pairs of a relation for each length of sources, unless one says otherwise."""

PARTS = ".unfinished-validation"
MOST_PROMPTS, MOST_NUMBERS = 1024, 2**26
"""Of a part, what is safe on disk when it is finished: prompts, and numbers of head outputs held at once."""

VERSION = 2
"""Of how hits are counted: parts of an earlier version are not used."""


def validate_atlas(
    atlas: Atlas,
    *,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    relations: Iterable[str] | None = None,
    add_relations: Any = None,
    templates: str | Path | None = None,
    pairs: int | None = PAIRS,
    effects: int = 0,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Atlas:
    """Score the outputs of all heads in a running model, and keep them in the atlas as its `validation`.

    For head `h` with output `z_h` at the last token of a text: `logits = z_h @ W_O_h @ W_U`, no final norm, and a hit
    as in the scores of the weights. `in-context`: z_h unchanged; `attention-fixed`: z_h is the value of the source's
    last token in the same run, as if all attention were on it. The score is the share of hits over pairs x templates.
    Both are also counted as the paper does (no bias, no norm) and with all terms between head and logits, so that like
    is compared with like. `total-effect`: z_h is that value, in the running model, and the change of the final logits
    takes the place of `logits`.

    Args:
        atlas: with a folder, the table, `validation.png` and `.svg` are written there, and a call that was interrupted
            continues where it stopped.
        model: where the model is; default: where your own map read it.
        adapter: the LoRA adapter that the atlas was made with.
        relations: names; default: all that the atlas measured.
        add_relations: as for `map_heads`, where the atlas's relations are not built in.
        templates: a TOML file of texts instead of the package's own.
        pairs: most pairs of a relation, for sources of one and of several tokens each; None: all.
        effects: most pairs of a relation whose total effects are measured too, each in one text; slow, since each head
            needs a pass of its own.
        seed: of the choice of pairs.
        device: `cpu` or `cuda`.

    Returns:
        The atlas with the evidence `validation`, a row per relation, head, condition and length of sources.

    Raises:
        HeadatlasError: another model than the atlas's, too little memory, files that cannot be read.

    >>> atlas = validate_atlas(atlas, relations=["country_to_capital"], pairs=10)
    >>> atlas.evidence("validation")["condition"].unique().tolist()
    ['attention-fixed', 'in-context']
    """
    import pandas as pd

    from headatlas.engines.devices import check_device, use_threads

    check_device(device)
    if pairs is not None and pairs < 2:
        raise SettingsError(f"pairs: expected a whole number of at least 2, found {pairs}.")
    if effects < 0:
        raise SettingsError(f"effects: expected a whole number of at least 0, found {effects}.")
    if relations is not None:
        relations = [atlas.check_relation(name) for name in relations]
    texts, started = load_templates(templates), time.perf_counter()
    session = Session.of_atlas(atlas, model, adapter, progress)
    heads, tokenizer = session.heads, session.tokenizer
    known, left_out = relations_of(atlas, tokenizer, heads.d_vocab, relations, add_relations)
    contexts = make_contexts(list(known.values()), tokenizer, heads.d_vocab, texts, pairs, seed)
    settings = {"templates": texts, "pairs": pairs, "seed": seed, "relations": list(known), "effects": effects}
    with (
        use_threads(threads) as n_threads,
        RunParts(atlas.folder, PARTS, _identity(atlas, contexts, settings), "validating this atlas") as parts,
    ):
        running = None
        variants = _variants(heads)
        bounds = _bounds(contexts, heads)
        counts: np.ndarray | None = None
        for number, (first, last) in enumerate(bounds):
            if progress is not None:
                progress(Stage.PROMPTS, first, len(contexts.prompts))
            part = f"part-{number:05}"
            kept = parts.load(part)
            if kept is None:
                running = running or RunningModel(heads, device, report_stage(progress, Stage.BYTES))
                kept = {"counts": _measure(running, contexts, first, last, variants, n_threads, progress)}
                parts.save(part, kept)
            found = kept["counts"]
            counts = found if counts is None else counts + found
        if counts is None:
            raise SettingsError("templates: expected texts in which words keep their tokens, found none that does.")
        has_heads = [heads.has_heads(layer) for layer in range(heads.n_layers)]
        tables = [_table(contexts, of_variant.sum(-1), has_heads, len(texts)) for of_variant in counts]
        correlations = [
            row
            for name, table, of_variant in zip(variants, tables, counts, strict=True)
            for row in correlate(atlas, table, name, _by_text(contexts, of_variant, has_heads))
        ]
        table = tables[0]
        if effects:
            found = parts.load("effects")
            if found is None:
                running = running or RunningModel(heads, device, report_stage(progress, Stage.BYTES))
                found = measure_effects(running, contexts, effects)
                parts.save("effects", found)
            of_effects = _effects_table(contexts, found, has_heads)
            correlations += correlate(atlas, of_effects)
            table = pd.concat([table, of_effects], ignore_index=True)
        facts = ValidationFacts(
            templates=tuple(texts),
            pairs=pairs,
            seed=seed,
            relations=tuple(known),
            left_out=tuple(left_out),
            groups=tuple(contexts.groups),
            prompts=len(contexts.prompts),
            effects=effects,
            seconds=round(time.perf_counter() - started, 1),
            device=device,
            packages=running_packages(),
            correlations=tuple(correlations),
        )
        atlas = add_evidence(atlas, {"validation": (table, facts)})
        if atlas.folder is not None:
            from headatlas.figures import draw_validation

            save_pictures(draw_validation(atlas), atlas.folder / "validation", EVIDENCE_FORMATS)
        parts.remove()
    return atlas


def _variants(heads: HeadModel) -> dict[str, HeadModel]:
    """The same heads with other terms between them and the logits, by their name in COUNTED, the atlas's own first."""
    from headatlas.architectures import open_model

    every = {}
    for field in fields(Terms):
        if field.name == "input_norm_gain":  # in front of the heads
            continue
        try:
            check_terms(Terms(**{field.name: True}), heads.attention)
        except SettingsError:
            continue
        every[field.name] = True
    variants = {"own": heads}
    for name, terms in (("none", Terms()), ("all", Terms(**every))):
        if all(terms != variant.terms for variant in variants.values()):
            variants[name] = open_model(heads.checkpoint, terms)
    return variants


def _measure(
    running: RunningModel,
    contexts: Contexts,
    first: int,
    last: int,
    variants: dict[str, HeadModel],
    threads: int,
    progress: Progress | None,
) -> np.ndarray:
    """Hits of the tasks of prompts `first` to `last`: Int[ndarray, "variant condition side layer head group text"]."""
    import numpy as np
    import torch

    from headatlas.measuring.running.head_ranks import HeadRanks
    from headatlas.scoring import HeadOverflowError

    heads, n_prompts = running.heads, last - first
    outputs, values = ({layer: [] for layer in running.layers} for _ in range(2))
    order: list[int] = []
    sources = torch.tensor(contexts.source[first:last])
    for places, ids in batches(contexts.prompts[first:last]):
        watched = running.watch(ids, sources[places])
        for layer in running.layers:
            outputs[layer].append(watched.outputs[layer].to(torch.float32))
            values[layer].append(watched.values[layer].to(torch.float32))
        order += places
        if progress is not None:
            progress(Stage.PROMPTS, first + len(order) // 2, len(contexts.prompts))
    row_of = torch.empty(n_prompts, dtype=torch.long)
    row_of[torch.tensor(order)] = torch.arange(n_prompts)
    tasks = [task for task, prompt in enumerate(contexts.prompt) if first <= prompt < last]
    row = row_of[torch.tensor([contexts.prompt[task] - first for task in tasks])]
    target_ids, k, group, text = (
        torch.tensor([column[task] for task in tasks])
        for column in (contexts.target_ids, contexts.k, contexts.of_group, contexts.of_text)
    )
    n_texts = contexts.n_texts
    shape = (len(contexts.groups), n_texts)
    counts = np.zeros((len(variants), 2, 2, heads.n_layers, heads.n_heads, *shape), dtype=np.int32)
    for number, variant in enumerate(variants.values()):
        ranks = HeadRanks(variant.W_U().to(running.device), row, target_ids, k, threads)
        for done, layer in enumerate(running.layers):
            W_O = variant.values_and_outputs(layer)[1].to(running.device)
            fixed = torch.cat(values[layer])[:, list(heads.kv_head_of(layer))]
            for condition, z in enumerate((fixed, torch.cat(outputs[layer]))):
                try:
                    found = ranks.layer(z, W_O)
                except HeadOverflowError as error:
                    raise ArchitectureError(
                        f"{heads.checkpoint.source}: layer {layer}, head {error.head}: the head's output in a text "
                        f"exceeds what float32 can hold. Are the weights damaged?"
                    ) from error
                for side, hits in enumerate(found):
                    cells = torch.zeros(heads.n_heads, math.prod(shape), dtype=torch.int32)
                    cells.index_add_(1, group * n_texts + text, hits.int())
                    counts[number, condition, side, layer] = cells.view(-1, *shape).numpy()
            if progress is not None:
                share = (number + (done + 1) / len(running.layers)) / len(variants)
                progress(Stage.PROMPTS, first + n_prompts // 2 + int(n_prompts / 2 * share), len(contexts.prompts))
    return counts


def _by_text(contexts: Contexts, counts: np.ndarray, has_heads: list[bool]) -> ByText:
    """Shares of hits in each text, from the counts of one variant."""
    import numpy as np

    group_of = {(group.tokens, group.relation): number for number, group in enumerate(contexts.groups)}
    layers = np.flatnonzero(has_heads)

    def shares(side: str, condition: str, tokens: str, relation: str) -> np.ndarray:
        number = group_of[tokens, relation]
        hits = counts[CONDITIONS.index(condition), SIDES.index(side)][layers, :, number]
        return hits.reshape(-1, contexts.n_texts).T / contexts.groups[number].pairs

    return shares


def _effects_table(contexts: Contexts, found: dict[str, np.ndarray], has_heads: list[bool]) -> pd.DataFrame:
    """Rows of the condition `total-effect`, from hits (relation's group, side, layer, head) and pairs by group."""
    import pandas as pd

    parts = [
        _rows(group.relation, TOTAL_EFFECT, "one", int(pairs), int(pairs), hits, has_heads)
        for group, pairs, hits in zip(contexts.groups, found["pairs"], found["hits"], strict=True)
        if pairs
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _bounds(contexts: Contexts, heads: Any) -> list[tuple[int, int]]:
    """Prompts in parts: (first, behind the last)."""
    per_prompt = 0
    for layer in range(heads.n_layers):
        if heads.has_heads(layer):
            n_kv_heads, d_head = heads.attention.value_place(layer)[1].shape
            per_prompt += (n_kv_heads + heads.n_heads) * d_head
    step = max(16, min(MOST_PROMPTS, MOST_NUMBERS // per_prompt))
    total = len(contexts.prompts)
    return [(first, min(first + step, total)) for first in range(0, total, step)]


def _table(contexts: Contexts, counts: np.ndarray, has_heads: list[bool], n_templates: int) -> pd.DataFrame:
    import pandas as pd

    parts = [
        _rows(
            group.relation, condition, group.tokens, group.pairs, group.pairs * n_templates, counts[at, ..., number],
            has_heads,
        )
        for number, group in enumerate(contexts.groups)
        if group.pairs
        for at, condition in enumerate(CONDITIONS)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _rows(
    relation: str, condition: str, tokens: str, pairs: int, prompts: int, counts: np.ndarray, has_heads: list[bool]
) -> pd.DataFrame:
    """Rows of the table `validation`.

    Args:
        counts: hits, Int[ndarray, "side layer head"].
    """
    import numpy as np
    import pandas as pd

    n_heads, layers = counts.shape[2], np.flatnonzero(has_heads)
    hits = {name: counts[place, layers].ravel() for place, name in enumerate(HITS_VARIABLES.values())}
    return pd.DataFrame(
        {
            "relation": relation,
            "layer": layers.repeat(n_heads),
            "head": np.tile(np.arange(n_heads), len(layers)),
            "condition": condition,
            "tokens": tokens,
            "pairs": pairs,
            "prompts": prompts,
            **hits,
            "score": hits["hits"] / prompts,
            "suppression": hits["suppression_hits"] / prompts,
        }
    )


def _identity(atlas: Atlas, contexts: Contexts, settings: dict[str, Any]) -> dict[str, Any]:
    """What parts have to agree on: the way of counting, the atlas, the settings, and every prompt."""
    tasks = [contexts.prompts, contexts.target_ids, contexts.k]
    return {
        "version": VERSION,
        "atlas": atlas.manifest.identity,
        "settings": settings,
        "tasks": hashlib.sha256(json.dumps(tasks).encode()).hexdigest(),
    }
