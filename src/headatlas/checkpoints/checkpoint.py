"""The interface of all file formats: names of tensors, their shapes, and parts of them as float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from headatlas.checkpoints.tensor_store import BytesProgress

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


class Checkpoint(Protocol):
    """Weights of one model in one format, under the names that Hugging Face's transformers gives them.

    No code from a checkpoint is run, and no path in it leaves its folder.
    """

    source: str
    """What the user named: `demo`, a path, a name on the hub or an address without its login."""

    name: str
    """A short name for titles."""

    model_type: str
    """The family's name in transformers, such as `llama`."""

    @property
    def note(self) -> str | None:
        """A fact about the weights that readers of results should know, such as their quantisation; None if none."""
        ...

    @property
    def why_not_run(self) -> str | None:
        """Why this checkpoint can be mapped but not run as a model; None if it can be run."""
        ...

    @property
    def config(self) -> PretrainedConfig:
        """The model's config; each access reads it again."""
        ...

    size: int
    """Bytes of all tensors."""

    @property
    def is_local(self) -> bool:
        """Whether all tensors are on this machine; of others, only what is read is transferred."""
        ...

    def load_tokenizer(self) -> PreTrainedTokenizerBase: ...

    def names(self) -> Iterable[str]: ...

    def __contains__(self, name: str) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def n_bytes(self, name: str) -> int:
        """Bytes of the tensor as stored, with its scales."""
        ...

    def file_of(self, name: str) -> str:
        """The file that holds a tensor, for messages."""
        ...

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor, or some of its rows (first axis), as float32 on the CPU; nothing else is read."""
        ...

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Transfer parts of tensors before they are read; does nothing if they are local."""
        ...
