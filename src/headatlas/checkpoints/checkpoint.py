"""What every file format offers to the rest: names of tensors, their shapes, and parts of them as float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from headatlas.checkpoints.tensor_store import BytesProgress

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


class Checkpoint(Protocol):
    """Weights of one model in one format, under the names that Hugging Face's transformers gives them.

    Nothing in it runs code from the checkpoint, and no path in it leaves the checkpoint's folder.
    """

    source: str
    """What the user named: a path, or a name on the hub."""

    name: str
    """A short name for titles."""

    model_type: str
    """The family's name in transformers, such as `llama`."""

    @property
    def note(self) -> str | None:
        """What a reader of results must know of the weights, such as their quantisation."""
        ...

    @property
    def why_not_run(self) -> str | None:
        """What the whole running model needs and is not read from this checkpoint; None where it can run."""
        ...

    @property
    def config(self) -> PretrainedConfig:
        """The model's config, read anew each time."""
        ...

    size: int
    """Bytes of all tensors."""

    def load_tokenizer(self) -> PreTrainedTokenizerBase: ...

    def names(self) -> Iterable[str]: ...

    def __contains__(self, name: str) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def n_bytes(self, name: str) -> int:
        """Bytes of the tensor as stored, its scales included."""
        ...

    def file_of(self, name: str) -> str:
        """The file that holds a tensor, for messages."""
        ...

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor, or some of its rows (first axis), as float32 on the CPU; only those are read."""
        ...

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Bring parts of tensors near before they are read; does nothing where they are local."""
        ...
