"""What file formats need to know about model families; `headatlas.architectures.open` provides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from headatlas.checkpoints.gguf.metadata import Metadata
    from headatlas.checkpoints.gguf.tensors import Tensor


class GgufFamily(Protocol):
    """How transformers represents the model of one GGUF file."""

    @property
    def model_type(self) -> str:
        """The family's name in transformers."""
        ...

    @property
    def why_not_run(self) -> str | None:
        """Why the model cannot be run, as the end of a sentence; None if it can."""
        ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Second names of tensors -> the names that `tensors` gives them."""
        ...

    def settings(self, n_layers: int) -> dict[str, Any]:
        """Values for transformers' config."""
        ...

    def tensors(self, n_layers: int) -> dict[str, Tensor]:
        """Name in transformers -> tensor, for the first `n_layers` layers.

        Raises:
            CheckpointError: the file holds a tensor that this family does not have.
        """
        ...


@dataclass(frozen=True)
class Families:
    """The knowledge about families that file formats need.

    Args:
        gguf: finds the family of a GGUF file; raises `CheckpointError` if it is unknown.
        is_transposed: whether a module, given its model type and path, stores its weight as (in, out).
    """

    gguf: Callable[[Metadata], GgufFamily]
    is_transposed: Callable[[str, str], bool]
