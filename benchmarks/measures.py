"""The parts of a row of the table.

`measure_map` maps a model as a user would; `measure_bounds` measures, on the same files, the work that no program can
avoid, and the plain loop. Each should run in its own process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import headatlas.scoring
from headatlas.architectures import HeadModel, head_inputs
from headatlas.measuring.map import map_heads
from headatlas.measuring.plan import plan_map
from headatlas.measuring.prefix import choose_prefix
from headatlas.measuring.session import Session
from headatlas.relations import choose_relations, encode_relations
from headatlas.scoring import RankSearch
from headatlas.settings import Settings
from shapes import HitShares

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference import load_by_transformers, plain_loop

TOKENS_AT_ONCE = 8192
"""Tokens of the vocabulary in one product of the hits' column, so that memory stays small."""

SEQUENCES_AT_ONCE = 512
"""Sequences of two tokens in one batch of transformers' own pass."""

_OF_HIT = ["relation", "source_id", "target_id", "head", "side"]


@dataclass
class MapRun:
    """A map, with the time and memory that it took.

    Args:
        seconds: for the inputs and all layers, without start-up, self-check and fingerprint.
        layer_ends: seconds from the start of the first layer to the end of each layer.
        looked_at: share of all logits that were computed.
        in_float64: decisions that float32 could not make.
        n_layers, n_heads, n_pairs: counts.
        pair_hits: a row per hit (relation, source_id, target_id, layer, head, side), as in an atlas.
        peak_bytes: largest anonymous memory of the process; None if the system does not report it.
    """

    seconds: float
    layer_ends: list[float]
    looked_at: float
    in_float64: int
    n_layers: int
    n_heads: int
    n_pairs: int
    pair_hits: pd.DataFrame
    peak_bytes: int | None = None

    @property
    def share(self) -> float:
        """Share of hits among (head, pair), both sides together."""
        return len(self.pair_hits) / (self.n_layers * self.n_heads * self.n_pairs)

    def shares(self) -> HitShares:
        """The hits of each head, as a share of the pairs."""
        place = self.pair_hits["layer"] * self.n_heads + self.pair_hits["head"]
        counts = {
            side: np.bincount(place[self.pair_hits["side"] == side], minlength=self.n_layers * self.n_heads)
            for side in ("promoted", "suppressed")
        }
        return HitShares(*(tuple((count / self.n_pairs).tolist()) for count in counts.values()))


def measure_map(source: str, threads: int, profile: str = "maps") -> MapRun:
    """Map a model as a user would, without writing to disk."""
    torch.set_num_threads(threads)
    searches: list[RankSearch] = []

    class Watched(RankSearch):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            searches.append(self)

    times = []

    def note_time(what: str, done: int, of: int) -> None:
        if what == "layers":
            times.append(time.perf_counter())

    whole, headatlas.scoring.RankSearch = headatlas.scoring.RankSearch, Watched
    try:
        # With `alone`, the check loads the whole model, if it fits.
        check = profile == "maps"
        atlas = map_heads(source, profile=profile, chance=False, self_check=check, threads=threads, progress=note_time)
    finally:
        headatlas.scoring.RankSearch = whole
    measurable = [item for item in atlas.manifest.relations.items if item.measurable]
    return MapRun(
        seconds=atlas.manifest.run.seconds,
        layer_ends=[end - times[0] for end in times[1:]],
        looked_at=sum(each.work.logits for each in searches) / sum(each.work.full for each in searches),
        in_float64=atlas.manifest.run.decided_in_float64,
        n_layers=atlas.n_layers,
        n_heads=atlas.n_heads,
        n_pairs=sum(item.pairs or 0 for item in measurable),
        pair_hits=atlas.pair_hits.drop(columns=["source", "target"]),
    )


class Bounds:
    """A model, opened for the measurements that its map is compared with.

    Args:
        source: a path.
        threads: of every product.
        profile: the map's.

    Attributes:
        inputs_seconds: time to compute the input vectors; a map needs it, the floor does not include it.
        plain_inputs_seconds: with `alone`, the same by transformers in float32; otherwise 0.
    """

    def __init__(self, source: str, threads: int, profile: str = "maps") -> None:
        torch.set_num_threads(threads)
        self.workers = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        session = Session(source, profile=profile)
        self.model = model = session.heads
        settings = Settings.of_profile(model.d_vocab, profile)
        encoded = encode_relations(choose_relations(), session.tokenizer, model.d_vocab, settings)
        self.relations = [relation for relation in encoded if relation.measurable]
        sources = torch.tensor([token for relation in self.relations for token in relation.source_ids])
        self.ids, self.source = sources.unique(return_inverse=True)
        self.targets = torch.tensor([token for relation in self.relations for token in relation.target_ids])
        self.k = [relation.k for relation in self.relations for _ in relation.pairs]
        triples = [
            (relation.name, *ids)
            for relation in self.relations
            for ids in zip(relation.source_ids, relation.target_ids, strict=True)
        ]
        self.pair = {triple: number for number, triple in enumerate(triples)}
        self.W_U = model.W_U()
        target_ids, self.target = self.targets.unique(return_inverse=True)
        self.W_U_targets = self.W_U[target_ids]
        prefix = choose_prefix(session, self.ids.tolist())
        token = None if prefix is None else prefix.token
        self.inputs: dict[int, torch.Tensor] = {}
        self.inputs_seconds = _seconds(
            lambda: self.inputs.update(head_inputs(model, self.ids, range(model.n_layers), token))
        )
        self.plain_inputs, self.plain_inputs_seconds = self.inputs, 0.0
        if token is not None:
            self.plain_inputs, self.plain_inputs_seconds = transformers_inputs(Path(source), self.ids, token)

    def hits_of(self, layer: int, pair_hits: pd.DataFrame) -> torch.Tensor:
        """The map's hits of a layer: Bool[Tensor, "side head pair"]."""
        hits = torch.zeros(2, self.model.n_heads, len(self.source), dtype=torch.bool)
        here = pair_hits[pair_hits["layer"] == layer]
        for relation, source, target, head, side in here[_OF_HIT].itertuples(index=False):
            hits[int(side == "suppressed"), head, self.pair[relation, source, target]] = True
        return hits

    def read(self, layer: int | None) -> float:
        """Seconds to read and dequantise the tensors of a layer; None: the tensors outside all layers."""
        wanted = parts_of(self.model, layer)
        return _seconds(lambda: [self.model.checkpoint.read(name, rows) for name, rows in wanted.items()])

    def products(self, layer: int, hits: torch.Tensor) -> dict[str, float]:
        """Seconds of the necessary products of a layer.

        Args:
            hits: hits on at least one side, Bool[Tensor, "head pair"].

        Returns:
            values: the inputs times W_V of all kv heads; own: the logit of each target; hits: a row of logits for every
            head and source with a hit.
        """
        x, (W_V, W_O) = self.inputs[layer], self.model.values_and_outputs(layer)
        kv_head = self.model.kv_head_of(layer)
        joined = W_V.transpose(0, 1).flatten(1)
        values: list[torch.Tensor] = []
        seconds = {"values": _seconds(lambda: values.append(x @ joined))}
        of_kv = values[0].view(len(x), len(W_V), -1).transpose(0, 1)
        seconds["own"] = _seconds(lambda: self._own_logits(of_kv, W_O, kv_head))
        rows = [self.source[chosen].unique() for chosen in hits]
        of_hits = [of_kv[kv_head[head]][chosen] for head, chosen in enumerate(rows)]
        seconds["hits"] = _seconds(lambda: self._rows_of_logits(of_hits, W_O))
        return seconds

    def loop(self, layer: int, heads: Iterable[int]) -> tuple[float, torch.Tensor]:
        """Seconds of the plain loop over some heads, and its hits: Bool[Tensor, "side head pair"]."""
        W_V, W_O = self.model.values_and_outputs(layer)
        kv_head, found = self.model.kv_head_of(layer), []
        started = time.perf_counter()
        for head in heads:
            found.append(self._loop_head(self.plain_inputs[layer], W_V[kv_head[head]], W_O[head]))
        seconds = time.perf_counter() - started
        return seconds, torch.stack(found, dim=1)

    def compare(self, layer: int, heads: list[int], mapped: torch.Tensor, found: torch.Tensor) -> tuple[int, int]:
        """The number of decisions in which map and loop differ, and in which float64 contradicts the map.

        Args:
            mapped, found: Bool[Tensor, "side head pair"] for these heads.
        """
        different = (mapped != found).nonzero().tolist()
        wrong = [
            (side, number, pair)
            for side, number, pair in different
            if bool(mapped[side, number, pair]) != self.in_float64(layer, heads[number], side, pair)
        ]
        return len(different), len(wrong)

    def in_float64(self, layer: int, head: int, side: int, pair: int) -> bool:
        """Whether a pair is a hit, with all products in float64; side 0 is promoted, side 1 suppressed."""
        (W_V, W_O), k = self.model.values_and_outputs(layer), self.k[pair]
        x = self.inputs[layer][self.source[pair]].double()
        output = x @ W_V[self.model.kv_head_of(layer)[head]].double() @ W_O[head].double() * (1 - 2 * side)
        logits = torch.cat([block.double() @ output for block in self.W_U.split(TOKENS_AT_ONCE)])
        return int((logits >= logits[self.targets[pair]]).sum()) - 1 < k

    def _own_logits(self, of_kv: torch.Tensor, W_O: torch.Tensor, kv_head: Any) -> None:
        """Projects each target to the values of a head, as there are fewer targets than pairs; one thread per head."""

        def of_head(head: int) -> None:
            to_targets = self.W_U_targets @ W_O[head].T
            value = of_kv[kv_head[head]].index_select(0, self.source)
            torch.bmm(value[:, None], to_targets.index_select(0, self.target)[:, :, None])

        list(self.workers.map(of_head, range(len(W_O))))

    def _rows_of_logits(self, of_hits: list[torch.Tensor], W_O: torch.Tensor) -> None:
        """Joint outputs of all heads with few rows; the product with W_O @ W_U for heads with many."""
        _, d_head, d_model = W_O.shape
        few = [len(rows) * (d_model - d_head) <= d_model * d_head for rows in of_hits]
        outputs = torch.cat([rows @ W_O[head] for head, rows in enumerate(of_hits) if few[head]] or [W_O[0, :0]])
        for block in self.W_U.split(TOKENS_AT_ONCE):
            outputs @ block.T
            for head, rows in enumerate(of_hits):
                if not few[head]:
                    rows @ (W_O[head] @ block.T)

    def _loop_head(self, x: torch.Tensor, W_V: torch.Tensor, W_O: torch.Tensor) -> torch.Tensor:
        found, first = [], 0
        for relation in self.relations:
            part = slice(first, first + len(relation.pairs))
            sides = plain_loop(x, W_V, W_O, self.W_U, self.source[part], self.targets[part], relation.k)
            found.append(torch.stack(sides))
            first = part.stop
        return torch.cat(found, dim=1)


@dataclass
class BoundsRun:
    """Results of `measure_bounds`; the lists have a number of seconds per layer.

    Args:
        inputs: seconds to compute the input vectors.
        plain_inputs: with `alone`, the same by transformers, which the plain loop needs; otherwise 0.
        read_base: seconds to read the tensors outside all layers.
        loop_seconds: of the plain loop over all its heads.
        n_looped: heads of the loop.
        n_loop_hits: hits that the loop found.
        n_different: decisions in which the map differs from the loop, which computes in float32.
        n_wrong: decisions among these in which float64 contradicts the map.
    """

    inputs: float
    plain_inputs: float
    read_base: float
    read: list[float]
    values: list[float]
    own: list[float]
    hits: list[float]
    loop_seconds: float
    n_looped: int
    n_loop_hits: int
    n_different: int
    n_wrong: int

    @property
    def floor(self) -> list[float]:
        """Seconds per layer: read it, multiply the inputs with W_V, compute the logit of each target."""
        return [sum(parts) for parts in zip(self.read, self.values, self.own, strict=True)]


def transformers_inputs(source: Path, ids: torch.Tensor, prefix: int) -> tuple[dict[int, torch.Tensor], float]:
    """What the heads of a Llama read for tokens behind a prefix, from transformers' hidden states in float32.

    Returns:
        Layer -> Float[Tensor, "n_ids d_model"], and the seconds that it took without opening the model.
    """
    from transformers import AutoModel

    if source.is_dir():
        model = AutoModel.from_pretrained(source, dtype=torch.float32)
    else:
        model = load_by_transformers(source).model
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in range(len(model.layers))}

    def run() -> None:
        for part in ids.split(SEQUENCES_AT_ONCE):
            sequences = torch.stack([torch.full_like(part, prefix), part], dim=1)
            states = model(sequences, output_hidden_states=True, use_cache=False).hidden_states
            for layer, read in found.items():
                read.append(model.layers[layer].input_layernorm(states[layer][:, -1]))

    with torch.no_grad():
        seconds = _seconds(run)
    return {layer: torch.cat(read) for layer, read in found.items()}, seconds


def measure_bounds(
    source: str, threads: int, pair_hits: pd.DataFrame, looped: dict[int, list[int]], profile: str = "maps"
) -> BoundsRun:
    """The floor and the hits' column of all layers, and the plain loop over some heads, layer by layer.

    Args:
        pair_hits: the map's hits.
        looped: layer -> the heads that the plain loop covers.
    """
    bounds = Bounds(source, threads, profile)
    bounds.read(None)  # into the page cache
    run = BoundsRun(
        bounds.inputs_seconds, bounds.plain_inputs_seconds, bounds.read(None), [], [], [], [], 0.0, 0, 0, 0, 0
    )
    for layer in range(bounds.model.n_layers):
        bounds.model.values_and_outputs(layer)  # into the page cache
        run.read.append(bounds.read(layer))
        mapped = bounds.hits_of(layer, pair_hits)
        products = bounds.products(layer, mapped.any(0))
        for name, seconds in products.items():
            getattr(run, name).append(seconds)
        if heads := looped.get(layer):
            seconds, found = bounds.loop(layer, heads)
            run.loop_seconds += seconds
            run.n_looped += len(heads)
            run.n_loop_hits += int(found.sum())
            n_different, n_wrong = bounds.compare(layer, heads, mapped[:, heads], found)
            run.n_different += n_different
            run.n_wrong += n_wrong
    return run


def model_size(source: str, profile: str = "maps") -> dict[str, int]:
    """Counts, widths and bytes to read, from the plan of a map; `to_read_base` are the bytes outside all layers."""
    plan, model = plan_map(source, profile=profile), Session(source, profile=profile).heads
    names = ("n_layers", "n_heads", "d_model", "d_vocab", "n_pairs", "n_sources", "to_read")
    base = sum(map(model.checkpoint.n_bytes, parts_of(model, None)))
    return {name: getattr(plan, name) for name in names} | {"n_relations": len(plan.measurable), "to_read_base": base}


def parts_of(model: HeadModel, layer: int | None) -> dict[str, slice | None]:
    """The stored tensors, and their rows, that a map reads for a layer; None: those outside all layers."""
    wanted = {}
    for part in model.parts():
        # With `alone`, the parts of a layer belong to the modules that compute the heads' input.
        _, of_module, place = part.path.partition(f"{model.family.layers}.")
        own = int(place.partition(".")[0]) if of_module and model.contextualize == "alone" else part.layer
        if own == layer:
            wanted |= dict(model.stored([part]))
    return wanted


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
