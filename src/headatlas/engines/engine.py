"""The interface of engines, which score the layers of one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from headatlas.architectures import HeadModel
    from headatlas.settings import Settings


@dataclass(frozen=True)
class LayerChance:
    """The chance levels of a layer's heads, and the pairs that copying hits there.

    Args:
        level, exact, p_value, uncopied_level, uncopied_p_value: as in `headatlas.scoring.Chance`; scores first, then
            suppressions: [ndarray, "2 n_relations n_heads"].
        copied: the pairs that copying hits, packed bits: UInt8[ndarray, "n_pairs/8"].
    """

    level: np.ndarray
    exact: np.ndarray
    p_value: np.ndarray
    copied: np.ndarray
    uncopied_level: np.ndarray
    uncopied_p_value: np.ndarray


@dataclass(frozen=True)
class LayerResult:
    """One layer's result.

    Args:
        promoted, suppressed: whether each pair is a hit, packed bits: UInt8[ndarray, "n_heads n_pairs/8"].
        promoted_ranks, suppressed_ranks: the number of tokens before the target of each hit, head by head:
            Int32[ndarray, "n_hits"].
        underflows: heads that write something, but so little that float32 holds only zeros: Bool[ndarray, "n_heads"].
        in_float64: number of decisions that needed float64.
        chance: None if it was not measured.
    """

    promoted: np.ndarray
    suppressed: np.ndarray
    promoted_ranks: np.ndarray
    suppressed_ranks: np.ndarray
    underflows: np.ndarray
    in_float64: int
    chance: LayerChance | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as a run folder stores them."""
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


_ARRAYS = ("promoted", "suppressed", "promoted_ranks", "suppressed_ranks", "underflows")
_CHANCE_ARRAYS = {
    "chance": "level",
    "chance_exact": "exact",
    "p_value": "p_value",
    "copied": "copied",
    "uncopied_chance": "uncopied_level",
    "uncopied_p_value": "uncopied_p_value",
}


@dataclass(frozen=True)
class Task:
    """The work to be done on every layer of a model; small, because engines send it to other machines.

    Args:
        source: the argument for `open_checkpoint`; a path is absolute, and None is the demo model.
        adapter: absolute path of a LoRA adapter's folder.
        fingerprint: the model's.
        settings: the measurement's.
        source_ids, target_ids, k: one value for each pair, relation by relation: Int64[ndarray, "n_pairs"].
        ends: the first pair of each relation, and n_pairs: Int64[ndarray, "n_relations+1"].
        chance: whether to measure chance levels, and which pairs copying hits.
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

    @property
    def input_ids(self) -> Tensor:
        """The distinct sources of all pairs, for which engines are given input vectors: Int64[Tensor, "n_inputs"]."""
        import torch

        return torch.from_numpy(self.source_ids).unique()

    @cached_property
    def key(self) -> str:
        """Identifies the task: two tasks with the same key are the same."""
        scalars = [self.source, self.adapter, self.fingerprint, self.settings.as_dict(), self.chance]
        digest = hashlib.sha256(json.dumps(scalars).encode())
        for array in (self.source_ids, self.target_ids, self.k, self.ends):
            digest.update(array.tobytes())
        return digest.hexdigest()


class Engine(Protocol):
    """Scores layers. The hits do not depend on the engine, nor on how many layers it scores at once.

    Attributes:
        name: its name on the command line.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of one process.
    """

    name: str
    device: str
    threads: int

    def score(
        self, model: HeadModel, task: Task, layers: Sequence[int], inputs: Iterator[tuple[int, Tensor]]
    ) -> Iterator[tuple[int, LayerResult]]:
        """Yield each layer with its result as soon as it is scored, in any order.

        Args:
            layers: in ascending order.
            inputs: those of these layers that have heads, in order, with what the heads read for `task.input_ids`:
                Float32[Tensor, "n_inputs d_in"], see `headatlas.architectures.head_inputs`. The next one is computed
                when it is requested.
        """
        ...
