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


@dataclass(frozen=True)
class LayerChance:
    """What a layer's heads would score if targets were paired anew; each array is [ndarray, "2 n_relations n_heads"].

    Args:
        level, exact, p_value: as in `headatlas.scoring.Chance`; of scores, then of suppressions.
    """

    level: np.ndarray
    exact: np.ndarray
    p_value: np.ndarray


@dataclass(frozen=True)
class LayerResult:
    """One layer's result.

    Args:
        promoted, suppressed: the bits of each head's pairs, packed: UInt8[ndarray, "n_heads n_pairs/8"].
        promoted_ranks, suppressed_ranks: of each hit, head by head, how many tokens come before its target:
            Int32[ndarray, "n_hits"].
        in_float64: number of decisions that float32 could not make.
        chance: None if it was not measured.
    """

    promoted: np.ndarray
    suppressed: np.ndarray
    promoted_ranks: np.ndarray
    suppressed_ranks: np.ndarray
    in_float64: int
    chance: LayerChance | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays of a run folder's part."""
        import numpy as np

        arrays = {name: getattr(self, name) for name in _ARRAYS} | {"in_float64": np.asarray(self.in_float64)}
        if self.chance is not None:
            arrays |= {name: getattr(self.chance, field) for name, field in _CHANCE_ARRAYS.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> LayerResult:
        """The inverse of `to_arrays`."""
        chance = None
        if "chance" in arrays:
            chance = LayerChance(**{field: arrays[name] for name, field in _CHANCE_ARRAYS.items()})
        return cls(**{name: arrays[name] for name in _ARRAYS}, in_float64=int(arrays["in_float64"]), chance=chance)


_ARRAYS = ("promoted", "suppressed", "promoted_ranks", "suppressed_ranks")
_CHANCE_ARRAYS = {"chance": "level", "chance_exact": "exact", "p_value": "p_value"}


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

    def score(self, model: HeadModel, task: Task, layers: Sequence[int]) -> Iterator[tuple[int, LayerResult]]:
        """Each layer's hits as soon as they are known, in any order."""
        ...
