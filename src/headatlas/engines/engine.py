"""What an engine does: score layers of one model, wherever that happens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from headatlas.architectures import HeadModel
    from headatlas.settings import Settings

LayerHits = dict[str, "np.ndarray"]
"""One layer's result: `promoted` and `suppressed`, UInt8[ndarray, "n_heads n_pairs/8"], the bits of each head's pairs
packed; `promoted_ranks` and `suppressed_ranks`, Int32[ndarray, "n_hits"], head by head how many tokens come before each
hit's target; where chance is measured `chance`, `chance_exact` and `p_value`, each [ndarray, "2 n_relations n_heads"];
and `in_float64`, the number of decisions that float32 could not make."""


@dataclass(frozen=True)
class Task:
    """What is asked of every layer of a model; small, so that it can travel.

    Args:
        source: what `open_checkpoint` is given; a path is absolute, and None is the demo model.
        adapter: absolute path of a LoRA adapter's folder.
        fingerprint: of the model.
        settings: of the measurement.
        source_ids, target_ids, k: of the pairs of all measured relations, one after the other, Int64[ndarray,
            "n_pairs"].
        ends: the first pair of each relation, and n_pairs: Int64[ndarray, "n_relations+1"].
        chance: whether chance levels are measured too.
    """

    source: str | None
    adapter: str | None
    fingerprint: str
    settings: Settings
    source_ids: np.ndarray
    target_ids: np.ndarray
    k: np.ndarray
    ends: np.ndarray
    chance: bool = True

    @cached_property
    def key(self) -> str:
        """Two tasks with the same key are the same."""
        told = [self.source, self.adapter, self.fingerprint, self.settings.as_dict(), self.chance]
        digest = hashlib.sha256(json.dumps(told).encode())
        for array in (self.source_ids, self.target_ids, self.k, self.ends):
            digest.update(array.tobytes())
        return digest.hexdigest()


class Engine(Protocol):
    """Where layers are scored. The hits are the same with every engine, whatever it does at once.

    Attributes:
        name: as the command line calls it.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of one process.
    """

    name: str
    device: str
    threads: int

    def score(self, model: HeadModel, task: Task, layers: Sequence[int]) -> Iterator[tuple[int, LayerHits]]:
        """Each layer's hits as soon as they are known, in any order."""
        ...
