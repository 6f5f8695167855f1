"""Reads a model in a process of its own with settings of its own: the hub's are read when its package is imported."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

WANTED = [("model.embed_tokens.weight", slice(3, 50)), ("model.layers.1.self_attn.v_proj.weight", None)]
"""Tensors, and which rows of them; None for all."""


def read_apart(name: str, settings: dict[str, str]) -> str:
    """The hash of what is WANTED of a model, or the sentence that refuses it.

    Args:
        name: as the user gives it.
        settings: the whole environment.
    """
    # Forked from a process that has imported what takes longest to import, and nothing that reads the hub's settings.
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["torch", "safetensors.torch", "httpx"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_read, name, settings).result(120)


def _read(name: str, settings: dict[str, str]) -> str:
    os.environ.clear()
    os.environ.update(settings)
    assert not any(module.split(".")[0] in ("headatlas", "huggingface_hub") for module in sys.modules)
    from headatlas.architectures.open import open_checkpoint
    from headatlas.errors import HeadatlasError

    try:
        checkpoint = open_checkpoint(name)
        checkpoint.fetch(WANTED)
        return hash_of(checkpoint.read(*each) for each in WANTED)
    except HeadatlasError as error:
        return str(error)


def hash_of(tensors) -> str:
    return hashlib.sha256(b"".join(tensor.float().numpy().tobytes() for tensor in tensors)).hexdigest()
