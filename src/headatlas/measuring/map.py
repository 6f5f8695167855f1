"""From a model to its atlas: joins weights, relations, scoring, salient operations and the written results."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import (
    CHANCE_VARIABLES,
    COPYING_VARIABLES,
    HITS_VARIABLES,
    SIDES,
    Atlas,
    build_dataset,
    head_name,
    load_atlas,
)
from headatlas.atlas.manifest import RelationsFacts, RunFacts
from headatlas.atomic import temporary_folder
from headatlas.engines import Engine, LayerResult, LocalEngine, Task
from headatlas.errors import RelationError, SettingsError
from headatlas.measuring.assumed_input import compare_input
from headatlas.measuring.kept_residuals import KeptResiduals
from headatlas.measuring.map_manifest import make_manifest, relations_facts
from headatlas.measuring.output import Evidence, add_evidence
from headatlas.measuring.own_maps import note_model
from headatlas.measuring.prefix import Examination, Prefix, choose_prefix, ordinary_prefixes
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.run_folder import SALIENT, RunFolder, remove_parts
from headatlas.measuring.salient import SalientLayers, Wanted, is_salient_wanted, measure_evidence, open_salient
from headatlas.measuring.session import Session
from headatlas.regular_files import at_home
from headatlas.relations import (
    EncodedRelation,
    RelationsLike,
    choose_relations,
    encode_relations,
)
from headatlas.settings import DEFAULT_PROFILE, MIN_PAIRS, SCORING_VERSION, TERMS, Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from headatlas.architectures import HeadModel


def map_heads(
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    relations: RelationsLike | None = None,
    add_relations: RelationsLike | None = None,
    k: int | None = None,
    threshold: str | float | None = None,
    contextualize: str | None = None,
    profile: str = DEFAULT_PROFILE,
    rule: str = "plain",
    prefix: str | None = None,
    value_bias: bool = False,
    attention_gain: bool = False,
    final_norm_gain: bool = False,
    input_norm_gain: bool = False,
    adapter: str | Path | None = None,
    self_check: bool = True,
    chance: bool = True,
    salient: bool | None = False,
    device: str = "cpu",
    threads: int | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Atlas:
    """Score every head of a model for every relation.

    `score = hits / pairs`, where a pair is a hit when fewer than `k` other tokens have a logit of at least its
    target's in `x @ W_V @ W_O @ W_U`. Source: MAPS (Elhelo & Geva 2025, arXiv 2412.11965), whose code scores against
    `topk`; we count ties against the target, so that a zeroed head scores 0.

    Args:
        model: a folder in Hugging Face layout, a `.gguf` file, a name on the hub or an address; default: the demo
            model.
        output: folder for the atlas, its figures and its report; finished layers are kept there, and the same call
            continues where it stopped. Without one, nothing is written.
        relations: instead of the built-in ones; relations, or the files and folders that hold them.
        add_relations: in addition to the built-in ones or `relations`.
        k: how many highest (lowest) logits count, at least 1; default 10, and 25 with `maps` above 100,000
            tokens. Copying relations keep theirs (1 and 3).
        threshold: strict limit above which a head implements a relation, 0 to 1; default 0.15.
        contextualize: what the heads read: `alone` (what the model's own layers hand to them for the token alone,
            behind a prefix; default of the profile `alone`), `first-mlp` (the embedding in the first layer, the first
            MLP's output in later ones; default of the profile `maps`), or `embedding`.
        profile: `alone`, which also counts all terms that the model has, or `maps`, as published.
        prefix: for `alone`, the token before each source; default: the one that the tokenizer puts before every text,
            otherwise an ordinary word.
        rule: how scores are counted when heads are classified: `plain`, or `calibrated`, which also requires that a
            score is beyond chance and beyond copying.
        value_bias, attention_gain, final_norm_gain, input_norm_gain: count also the bias of the values, the gain per
            channel of a norm behind the attention, of the final norm, of the norm before the attention. Each may change
            ranks; the profile `maps` counts none.
        adapter: folder of a LoRA adapter, which is added to the weights as they are read.
        self_check: compare the circuits with the model's own attention modules before scoring.
        chance: measure also what each head would score if the targets were paired at random, and which pairs a head
            hits that only copies its word.
        salient: measure salient operations too, as `measure_salient` does; None: if that is little work.
        device: `cpu` or `cuda`.
        threads: CPU threads; default: as many as torch uses.
        engine: where layers are scored, such as `headatlas.engines.RayEngine()`; device and threads are
            then its own. Default: this process.
        overwrite: replace another atlas in `output`.

    Raises:
        HeadatlasError: see `headatlas.errors`; each message says where, what was expected and what to do.

    >>> atlas = map_heads("path/to/model")
    >>> atlas.relations
    ['capital_to_country', 'country_to_capital']
    """
    from headatlas.architectures import NO_TERMS, Terms

    engine = _choose_engine(engine, device, threads)
    options = MapOptions(relations, add_relations, k, threshold, rule, prefix, self_check, chance, salient, overwrite)
    terms = Terms(value_bias, attention_gain, final_norm_gain, input_norm_gain)
    if profile == "alone":
        if terms != NO_TERMS:
            raise SettingsError(
                f"{', '.join(TERMS)}: the profile alone counts all that the model has. Omit "
                "these options, or choose the profile maps."
            )
        terms = None
    session = Session(model, adapter, terms, profile, contextualize, progress)
    return map_session(session, options, engine, output)


@dataclass(frozen=True)
class MapOptions:
    """What is measured of an opened model, and whether it may replace another atlas; as for `map_heads`."""

    relations: RelationsLike | None = None
    add_relations: RelationsLike | None = None
    k: int | None = None
    threshold: str | float | None = None
    rule: str = "plain"
    prefix: str | None = None
    self_check: bool = True
    chance: bool = True
    salient: bool | None = False
    overwrite: bool = False


def map_session(
    session: Session, options: MapOptions | None = None, engine: Engine | None = None, output: str | Path | None = None
) -> Atlas:
    """Map the model of a session, which can then be used further.

    Args:
        engine: where layers are scored; default: this process.
        output: folder for the results; default: nothing is written.
    """
    options = options or MapOptions()
    chosen = choose_relations(options.relations, options.add_relations)
    heads = session.heads
    settings = Settings.of_profile(
        heads.d_vocab,
        session.profile,
        options.k,
        options.threshold,
        session.contextualize,
        options.rule,
        **asdict(heads.terms),
    )
    encoded = encode_relations(chosen, session.tokenizer, heads.d_vocab, settings)
    _check_measurable(encoded)
    sources = {token for relation in encoded if relation.measurable for token in relation.source_ids}
    prefix = choose_prefix(session, sources, options.prefix)
    if prefix is not None:
        settings = replace(settings, prefix=prefix.token)
    facts = relations_facts(chosen, encoded, options.relations is None, options.add_relations is not None)
    wanted = _Wanted(settings, encoded, options.chance, options.self_check, facts, prefix)
    return _map(session, wanted, engine or LocalEngine(), options.salient, output, options.overwrite)


@dataclass(frozen=True)
class _Wanted:
    """What is measured of a model: settings, relations encoded as its tokens, and their facts for the manifest."""

    settings: Settings
    relations: list[EncodedRelation]
    chance: bool
    self_check: bool
    facts: RelationsFacts
    prefix: Prefix | None

    @property
    def measurable(self) -> list[EncodedRelation]:
        return [relation for relation in self.relations if relation.measurable]

    def identity(self, fingerprint: str) -> dict[str, Any]:
        """Two runs with the same identity make the same atlas."""
        hashes = "\n".join(relation.hash for relation in self.relations)
        return {
            "measure": "weights",
            "model": fingerprint,
            "relations": hashlib.sha256(hashes.encode()).hexdigest(),
            "settings": self.settings.as_dict(),
            "chance": self.chance,
            "scoring": SCORING_VERSION,
        }


def _map(
    session: Session, wanted: _Wanted, engine: Engine, salient: bool | None, output: str | Path | None, overwrite: bool
) -> Atlas:
    """Measure an opened model, and write all results once."""
    from headatlas.architectures import check_circuits

    heads = session.fetched_heads
    checks = check_circuits(heads) if wanted.self_check else None
    identity = wanted.identity(session.fingerprint)
    with ExitStack() as stack:
        folder = None if output is None else stack.enter_context(RunFolder(output, identity, overwrite))
        if folder is not None and folder.finished:
            atlas = load_atlas(folder.folder)
            note_model(atlas, folder.folder, session.source, session.checkpoint.source)
            if atlas.evidence("salient") is None and is_salient_wanted(heads, salient):
                atlas = add_evidence(atlas, _salient(atlas, session, engine, folder.folder))
            remove_parts(folder.folder, SALIENT)
            return atlas
        examination = None if wanted.prefix is None else Examination(heads, wanted.prefix, wanted.self_check, folder)
        salient = is_salient_wanted(heads, salient)
        parts = None if folder is None else folder.folder
        if salient and parts is None:
            parts = stack.enter_context(temporary_folder())
        with ExitStack() as together:
            layers = None
            if salient and wanted.prefix is not None:
                args = heads, session.vocabulary, wanted.settings, identity, Wanted(), *_device(engine), parts
                layers = together.enter_context(open_salient(*args))
            task = _task(session, wanted)
            compared = compare_input(session, task.source_ids.tolist(), wanted.self_check, folder)
            run = _measure(session, task, engine, folder, examination, layers)
        manifest = make_manifest(
            session, wanted.settings, wanted.facts, identity, run.facts, chance=wanted.chance, underflow=run.underflow,
            checks=checks, examination=examination, input_facts=compared,
        )  # fmt: skip
        measured = wanted.measurable
        pairs = _pairs(measured)
        atlas = Atlas(run.dataset(measured, heads), manifest, run.pair_hits(pairs), pairs=pairs)
        if salient:
            atlas = add_evidence(atlas, _salient(atlas, session, engine, parts))
        note_model(atlas, None if folder is None else folder.folder, session.source, session.checkpoint.source)
        if folder is not None:
            folder.finish(atlas)
            remove_parts(folder.folder, SALIENT)
    return atlas


def _salient(atlas: Atlas, session: Session, engine: Engine, folder: Path | None) -> Evidence:
    return measure_evidence(atlas, session, None, *_device(engine), folder)


def _device(engine: Engine) -> tuple[str, int | None]:
    """Device and threads of salient operations: they are measured in this process, whatever scores the layers."""
    return (engine.device, engine.threads) if isinstance(engine, LocalEngine) else ("cpu", None)


def _check_measurable(encoded: list[EncodedRelation]) -> None:
    if not any(relation.measurable for relation in encoded):
        best = max(encoded, key=lambda relation: len(relation.pairs))
        raise RelationError(
            f"relations: expected at least one with {MIN_PAIRS} pairs of which both words are one token of this model, "
            f"found none (most: {best.name} with {len(best.pairs)} of {len(best.relation.pairs)}). "
            f"`headatlas relations --check FILE --model MODEL` says which words drop out."
        )


@dataclass
class _Run:
    """What was measured of all layers.

    Args:
        promoted, suppressed: hits: Bool[ndarray, "layer head pair"], pairs of the relations one after the other.
        ranks: of the promoted and the suppressed hits, in their order: Int32[ndarray, "n_hits"].
        chance: CHANCE_VARIABLES and the levels of COPYING_VARIABLES, each [ndarray, "relation layer head"]; none if
            chance was not measured.
        copied: the pairs that copying hits: Bool[ndarray, "layer pair"]; None if it was not measured.
        underflow: names of the heads whose output float32 rounds to zeros.
    """

    promoted: np.ndarray
    suppressed: np.ndarray
    ranks: tuple[np.ndarray, np.ndarray]
    chance: dict[str, np.ndarray]
    copied: np.ndarray | None
    underflow: tuple[str, ...]
    facts: RunFacts

    def dataset(self, measured: list[EncodedRelation], model: HeadModel):
        import numpy as np

        ends = np.cumsum([len(relation.pairs) for relation in measured])
        of_pairs = {HITS_VARIABLES["score"]: self.promoted, HITS_VARIABLES["suppression"]: self.suppressed}
        if self.copied is not None:
            uncopied = ~self.copied[:, None, :]
            of_pairs |= {COPYING_VARIABLES[side][0]: of_pairs[HITS_VARIABLES[side]] & uncopied for side in SIDES} | {
                "copied": self.copied
            }
        counts = {
            name: np.stack([part.sum(-1, dtype=np.int32) for part in np.split(each, ends[:-1], axis=-1)])
            for name, each in of_pairs.items()
        } | self.chance
        labels = [(each.name, each.relation.category, each.k, len(each.pairs)) for each in measured]
        return build_dataset(labels, counts, [validity.kind for validity in model.validity])

    def pair_hits(self, pairs: pd.DataFrame) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        parts = []
        for side, hits, ranks in zip(
            ("promoted", "suppressed"), (self.promoted, self.suppressed), self.ranks, strict=True
        ):
            layer, head, pair = np.nonzero(hits)
            part = pairs.iloc[pair].reset_index(drop=True)
            parts.append(part.assign(layer=layer, head=head, side=side, rank=ranks))
        return pd.concat(parts, ignore_index=True)


def _pairs(measured: list[EncodedRelation]) -> pd.DataFrame:
    """The measured pairs, those of one relation after the other."""
    import pandas as pd

    return pd.DataFrame(
        [
            (relation.name, *pair, *ids)
            for relation in measured
            for pair, ids in zip(
                relation.pairs, zip(relation.source_ids, relation.target_ids, strict=True), strict=True
            )
        ],
        columns=["relation", "source", "target", "source_id", "target_id"],
    )


def _choose_engine(engine: Engine | None, device: str, threads: int | None) -> Engine:
    if engine is None:
        return LocalEngine(device, threads)
    if device != "cpu" or threads is not None:
        raise SettingsError("engine: device and threads belong to the engine; expected neither in addition to it.")
    return engine


def _task(session: Session, wanted: _Wanted) -> Task:
    import numpy as np

    def absolute(path: str | Path) -> str:
        there = at_home(path)
        return str(there.absolute()) if os.path.exists(there) else str(path)

    from headatlas.checkpoints.open import DEMO

    measured = wanted.measurable
    return Task(
        source=None if session.source == DEMO else absolute(session.source),
        adapter=None if session.adapter is None else absolute(session.adapter),
        fingerprint=session.fingerprint,
        settings=wanted.settings,
        source_ids=np.array([token for relation in measured for token in relation.source_ids]),
        target_ids=np.array([token for relation in measured for token in relation.target_ids]),
        k=np.array([relation.k for relation in measured for _ in relation.pairs]),
        ends=np.cumsum([0, *(len(relation.pairs) for relation in measured)]),
        chance=wanted.chance,
    )


def _measure(
    session: Session,
    task: Task,
    engine: Engine,
    folder: RunFolder | None,
    examination: Examination | None,
    salient: SalientLayers | None,
) -> _Run:
    """Measure all layers.

    Args:
        salient: measured of the same layers, for words that pass through the model together with the sources.
    """
    import numpy as np

    from headatlas.architectures import head_inputs

    model, progress = session.heads, session.progress
    started = time.perf_counter()
    done: dict[int, LayerResult] = {}
    for layer in range(model.n_layers):
        kept = None if folder is None else folder.load_layer(layer)
        if kept is not None:
            done[layer] = LayerResult.from_arrays(kept)
    n_kept = len(done)
    if progress is not None:
        progress(Stage.LAYERS, n_kept, model.n_layers)
    if missing := [layer for layer in range(model.n_layers) if layer not in done]:
        ids = task.input_ids if salient is None else _joined(task.input_ids, salient.ids)
        kept_residuals = KeptResiduals(folder, ids.numpy())
        alone: dict[str, Any] = {}
        if examination is not None:
            ordinary = ordinary_prefixes(session.tokenizer, model.d_vocab)
            alone = {"earlier": kept_residuals, "ordinary": ordinary, "examine": examination.examine}
            alone["n_examined"] = len(task.input_ids)
        with closing(head_inputs(model, ids, missing, task.settings.prefix, **alone)) as inputs:
            of_sources = inputs if salient is None else _measure_salient(salient, ids, len(task.input_ids), inputs)
            for layer, hits in engine.score(model, task, missing, of_sources):
                if folder is not None:
                    folder.save_layer(layer, hits.to_arrays())
                done[layer] = hits
                kept_residuals.drop_before(min((each for each in missing if each not in done), default=model.n_layers))
                if progress is not None:
                    progress(Stage.LAYERS, len(done), model.n_layers)
    promoted, suppressed = (
        np.stack(
            [np.unpackbits(getattr(done[layer], name), axis=-1, count=len(task.k)) for layer in range(model.n_layers)]
        ).astype(bool)
        for name in ("promoted", "suppressed")
    )
    in_order = [done[layer] for layer in range(model.n_layers)]
    chance = {
        name: np.stack([hits.to_arrays()[measured][at] for hits in in_order], axis=1)
        for at, side in enumerate(SIDES)
        for variables in (CHANCE_VARIABLES, {each: names[1:] for each, names in COPYING_VARIABLES.items()})
        for name, measured in zip(variables[side], variables["score"], strict=True)
        if task.chance
    }
    copied = [np.unpackbits(hits.chance.copied, count=len(task.k)) for hits in in_order if hits.chance is not None]
    promoted_ranks, suppressed_ranks = (
        np.concatenate([getattr(hits, f"{name}_ranks") for hits in in_order]) for name in ("promoted", "suppressed")
    )
    facts = RunFacts(
        seconds=round(time.perf_counter() - started, 3),
        layers_from_earlier_run=n_kept,
        decided_in_float64=sum(hits.in_float64 for hits in done.values()),
        engine=engine.name,
        device=engine.device,
        threads=engine.threads,
    )
    underflow = [
        head_name(at, int(head)) for at, hits in enumerate(in_order) for head in np.flatnonzero(hits.underflows)
    ]
    return _Run(
        promoted,
        suppressed,
        (promoted_ranks, suppressed_ranks),
        chance,
        np.stack(copied).astype(bool) if task.chance else None,
        tuple(underflow),
        facts,
    )


def _joined(sources: Tensor, others: Tensor) -> Tensor:
    """The sources, and behind them the other tokens that are none."""
    import torch

    return torch.cat([sources, others[~torch.isin(others, sources)]])


def _measure_salient(
    salient: SalientLayers, ids: Tensor, n_sources: int, inputs: Iterator[tuple[int, Tensor]]
) -> Generator[tuple[int, Tensor]]:
    """Measure the salient operations of each layer, and hand on what its heads read for the first of `ids`."""
    import torch

    in_order, order = ids.sort()
    rows = order[torch.searchsorted(in_order, salient.ids)]
    for layer, x in inputs:
        salient.measure(layer, x[rows])
        yield layer, x[:n_sources]
