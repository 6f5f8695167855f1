"""The parts of a model that a map reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a map uses a stored parameter for; the values are part of the fingerprint."""

    EMBEDDING = "W_E"
    UNEMBEDDING = "W_U"
    MODULE = "module"
    """A parameter of a module that computes the heads' input, or of one right before the unembedding."""
    LATENT = "latent"
    LATENT_GAIN = "latent gain"
    VALUE = "W_V"
    OUTPUT = "W_O"
    VALUE_BIAS = "b_V"
    ATTENTION_GAIN = "attention gain"
    INPUT_NORM_GAIN = "input norm gain"


@dataclass(frozen=True)
class Part:
    """A stored parameter that a map reads: all of it, or adjacent rows.

    Args:
        role: what the map uses it for.
        parameter: its name in the model.
        rows: the rows that are read; None for all.
        layer: the layer whose heads need it; None if all layers do.
        path: for `Role.MODULE`, the parameter's path in the base model.
    """

    role: Role
    parameter: str
    rows: slice | None = None
    layer: int | None = None
    path: str = ""

    @property
    def label(self) -> str:
        """The part's name in the fingerprint, the same for every file format."""
        if self.role is Role.MODULE:
            return self.path
        return self.role.value if self.layer is None else f"{self.role.value} {self.layer}"
