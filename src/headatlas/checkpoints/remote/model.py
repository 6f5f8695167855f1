"""What a name on the hub or an address leads to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headatlas.checkpoints.tensor_store import TensorStore


@dataclass(frozen=True)
class RemoteModel:
    """A model whose small files are local by now.

    Args:
        source: what the user named, without a login, for messages and results.
        path: a folder in Hugging Face layout, or a `.gguf` file.
        store: the stored tensors, if the weights are not in that folder.
    """

    source: str
    path: Path
    store: TensorStore | None = None
