"""Layers scored in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from headatlas.engines.devices import check_device, count_threads
from headatlas.engines.engine import LayerChance, LayerResult, Task
from headatlas.engines.memory import FreedMemory
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures import HeadModel


class LocalEngine:
    """Scores layers in this process.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads; default: as many as torch uses.

    Raises:
        SettingsError: there is no such device, or less than one thread.
    """

    name = "local"

    def __init__(self, device: str = "cpu", threads: int | None = None) -> None:
        check_device(device)
        self.device, self.threads = device, count_threads(threads)

    def score(
        self, model: HeadModel, task: Task, layers: Sequence[int], inputs: Iterator[tuple[int, Tensor]]
    ) -> Iterator[tuple[int, LayerResult]]:
        return LayerScorer(model, task, self.device, self.threads).score(layers, inputs)


class LayerScorer:
    """The search for one model's hits, built once and used for all of its layers."""

    def __init__(self, model: HeadModel, task: Task, device: str, threads: int) -> None:
        import torch

        from headatlas.scoring import ChanceLevels, Copying, RankSearch

        self.model, self.device = model, device
        self.n_pairs, self.ends = len(task.k), task.ends
        source = torch.searchsorted(task.input_ids, torch.from_numpy(task.source_ids))
        targets, k = torch.from_numpy(task.target_ids), torch.from_numpy(task.k)
        self.search = RankSearch(model.W_U().to(device), source, targets, k, threads)
        self.chance = ChanceLevels(self.search, task.ends.tolist()) if task.chance else None
        self.copying = None
        if task.chance:
            rows = self.search.W_U[task.input_ids.to(device)].cpu()
            own = [model.W_E(task.input_ids), model.outputs_like_rows(rows)]
            self.copying = Copying(self.search, [each.to(device) for each in own])

    def score(self, layers: Sequence[int], inputs: Iterator[tuple[int, Tensor]]) -> Iterator[tuple[int, LayerResult]]:
        """Each layer with its result, in the order of `layers`; a thread reads the next layer during each search."""

        def read(layer: int) -> tuple[Tensor, Tensor, Tensor] | None:
            if not self.model.has_heads(layer):
                return None
            of_layer, x = next(inputs)
            assert of_layer == layer, f"the input of layer {of_layer} instead of {layer}"
            return x, *self.model.values_and_outputs(layer)

        freed = FreedMemory()
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(read, layers[0]) if layers else None
            for number, layer in enumerate(layers):
                assert ahead is not None
                factors = ahead.result()
                ahead = reader.submit(read, layers[number + 1]) if number + 1 < len(layers) else None
                yield layer, self._score_layer(layer, factors)
                freed.give_back()

    def _score_layer(self, layer: int, factors: tuple[Tensor, Tensor, Tensor] | None) -> LayerResult:
        import numpy as np

        from headatlas.scoring import MISS, Chance, HeadOverflowError

        before = self.search.work.in_float64
        n_heads, n_relations = self.model.n_heads, len(self.ends) - 1
        underflows = np.zeros(n_heads, bool)
        if factors is None:
            ranks = (np.full((n_heads, self.n_pairs), MISS, np.int32),) * 2
            nothing = np.zeros((2, n_relations, n_heads))
            found = None
            if self.chance is not None:
                found = Chance(nothing, nothing == 0, nothing + 1, np.full_like(nothing, np.nan), nothing + 1)
            copied = np.zeros(self.n_pairs, bool)
        else:
            x, W_V, W_O = (each.to(self.device) for each in factors)
            try:
                heads = self.search.heads(x, W_V, W_O, self.model.kv_head_of(layer))
            except HeadOverflowError as error:
                raise ArchitectureError(
                    f"layer {layer}, head {error.head}: the output of this head exceeds what float32 can hold. Are the "
                    f"weights damaged?"
                ) from error
            underflows[heads.underflows] = True
            ranks = tuple(each.numpy() for each in self.search.pairs(heads, remember=self.chance is not None))
            found, copied = None, np.zeros(self.n_pairs, bool)
            if self.chance is not None and self.copying is not None:
                copied = self.copying.layer(x).cpu().numpy()
                found = self.chance.layer(heads, np.stack(ranks) != MISS, copied)
        promoted, suppressed = ranks
        return LayerResult(
            promoted=np.packbits(promoted != MISS, axis=-1),
            suppressed=np.packbits(suppressed != MISS, axis=-1),
            promoted_ranks=promoted[promoted != MISS],
            suppressed_ranks=suppressed[suppressed != MISS],
            underflows=underflows,
            in_float64=self.search.work.in_float64 - before,
            chance=None if found is None else LayerChance(copied=np.packbits(copied), **vars(found)),
        )
