"""The residuals between layers that an interrupted map continues from, in the folder of its run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from headatlas.measuring.run_folder import RunParts

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SAVE_EVERY = 30.0
"""Seconds of work, about, that an interruption costs; residuals of large models are hundreds of megabytes a layer."""

PART, IDS = "residuals-", "ids"


class KeptResiduals:
    """What some layers read, each a part of the run; `headatlas.architectures.kept_states.KeptRun`.

    Args:
        parts: of the run; None keeps nothing.
        ids: the tokens of the residuals; those of other tokens are not loaded.
        before: called before residuals are saved, to keep what was found in earlier layers.
    """

    def __init__(self, parts: RunParts | None, ids: np.ndarray, before: Callable[[], None] | None = None) -> None:
        self.parts, self.ids, self.before = parts, ids, before
        self._saved_at = time.monotonic()

    def load(self, layer: int) -> tuple[int, dict[str, Tensor]] | None:
        import numpy as np
        import torch

        for kept in sorted((each for each in self._kept() if each <= layer), reverse=True):
            assert self.parts is not None
            arrays = self.parts.load(_name(kept)) or {}
            ids = arrays.pop(IDS, None)
            if ids is not None and np.array_equal(ids, self.ids):
                return kept, {name: torch.from_numpy(array) for name, array in arrays.items()}
        return None

    def save(self, layer: int, residuals: dict[str, Tensor]) -> None:
        if self.parts is not None and time.monotonic() - self._saved_at >= SAVE_EVERY:
            if self.before is not None:
                self.before()
            self.parts.save(_name(layer), {IDS: self.ids} | {name: each.numpy() for name, each in residuals.items()})
            self._saved_at = time.monotonic()

    def drop_before(self, layer: int) -> None:
        """Drop what no run will need that begins with `layer`: all but the last kept layer up to it."""
        for kept in sorted(each for each in self._kept() if each <= layer)[:-1]:
            assert self.parts is not None
            self.parts.drop(_name(kept))

    def _kept(self) -> list[int]:
        found = [] if self.parts is None else [part.removeprefix(PART) for part in self.parts.names(PART)]
        return [int(number) for number in found if number.isdecimal()]


def _name(layer: int) -> str:
    return f"{PART}{layer:04d}"
