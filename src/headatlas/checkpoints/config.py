"""`config.json` and tokenizer of a folder in Hugging Face layout, read without running any code from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.errors import CheckpointError
from headatlas.regular_files import read_regular_text

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

COUNTS = ("layers", "layer", "blocks", "labels", "stages")
MOST = 100_000
"""Largest value under a key that ends in one of COUNTS; transformers makes a list of that length."""

QUANTISED = "Use the checkpoint that it was quantised from, or a GGUF file"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises `CheckpointError` if the file is missing or holds something else."""
    try:
        content = json.loads(read_regular_text(path))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: expected a {path.name}, found none. Is this a model's folder?"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected JSON, found something else ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(content).__name__}.")
    return content


def model_type(path: Path, content: dict[str, Any]) -> str:
    """The family's name, after refusing counts with which transformers would fill the memory."""
    name = content.get("model_type")
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{path}: expected a 'model_type', found {name!r}. Is this a language model's folder?")
    parts = [content]
    while parts:
        for key, value in parts.pop().items():
            if isinstance(value, dict):
                parts.append(value)
            if key.endswith(COUNTS) and isinstance(value, int | float) and value > MOST:
                raise CheckpointError(f"{path}: expected at most {MOST:,} for {key!r}, found {value:,}.")
    return name


def load_config(folder: Path) -> PretrainedConfig:
    """The model's config as transformers reads it; code from the folder is never run."""
    from transformers import AutoConfig

    path = folder / "config.json"
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers raises many types for an inconsistent config
        if "auto_map" in read_json(path):
            raise CheckpointError(
                f"{path}: expected a model type that transformers knows, found one that needs its own code, which "
                f"headatlas never runs. Use a checkpoint of the same model for transformers without such code."
            ) from error
        raise unreadable(path, error) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers reads it; code from the folder is never run."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as above
        raise CheckpointError(
            f"{folder}: expected a tokenizer (tokenizer.json, or the files that the model's own tokenizer needs), "
            f"found none that transformers can read ({_first_line(error)})."
        ) from error


def unreadable(where: Path, error: Exception) -> CheckpointError:
    """The error for a config that transformers refuses."""
    return CheckpointError(f"{where}: transformers cannot read this config ({_first_line(error)}).")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".: ")
