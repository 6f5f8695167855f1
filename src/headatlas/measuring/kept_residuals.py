"""The residuals between layers that an interrupted map continues from, in the folder of its run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headatlas.measuring.run_folder import RunParts

if TYPE_CHECKING:
    from torch import Tensor

SAVE_EVERY = 30.0
"""Seconds of work, about, that an interruption costs; residuals of large models are hundreds of megabytes a layer."""

PART = "residuals-"


class KeptResiduals:
    """What some layers read, each a part of the run; `headatlas.architectures.kept_states.KeptRun`.

    Args:
        parts: of the run; None keeps nothing.
    """

    def __init__(self, parts: RunParts | None) -> None:
        self.parts = parts
        self._saved_at = time.monotonic()

    def load(self, layer: int) -> tuple[int, dict[str, Tensor]] | None:
        import torch

        for kept in sorted((each for each in self._kept() if each <= layer), reverse=True):
            assert self.parts is not None
            if (arrays := self.parts.load(_name(kept))) is not None:
                return kept, {name: torch.from_numpy(array) for name, array in arrays.items()}
        return None

    def save(self, layer: int, residuals: dict[str, Tensor]) -> None:
        if self.parts is not None and time.monotonic() - self._saved_at >= SAVE_EVERY:
            self.parts.save(_name(layer), {name: each.numpy() for name, each in residuals.items()})
            self._saved_at = time.monotonic()

    def drop_before(self, layer: int) -> None:
        """Drop what no run will need that begins with `layer`: all but the last kept layer up to it."""
        for kept in sorted(each for each in self._kept() if each <= layer)[:-1]:
            assert self.parts is not None
            self.parts.drop(_name(kept))

    def _kept(self) -> list[int]:
        return [] if self.parts is None else [int(part.removeprefix(PART)) for part in self.parts.names(PART)]


def _name(layer: int) -> str:
    return f"{PART}{layer:04d}"
