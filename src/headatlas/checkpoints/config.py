"""`config.json` and tokenizer of a folder in Hugging Face layout, read without running any code from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.bounded_json import TooLarge, parse_bounded, read_bounded
from headatlas.checkpoints.tokenizer_file import check_tokenizer
from headatlas.checkpoints.transformers_log import escape_log
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

LAYERS = ("layers", "layer", "blocks")
COUNTS = (*LAYERS, "labels", "stages")
MOST = 100_000
"""Largest value under a key that ends in one of COUNTS; transformers makes a list of that length."""

MOST_LAYERS = 2_000
"""The same for layers, each of which is several modules; the deepest language models have about 150."""

MOST_BYTES, MOST_VALUES = 4 << 20, 200_000
"""Largest config; one with the names of 20,000 classes has 1 MB."""

SAMPLES = (" a word", "Ａ\u0301 ﬁ 1½", "")
"""Texts that a tokenizer must be able to encode: some fail only when they are used."""

ASKED = ("all_special_ids", "unk_token_id", "added_tokens_decoder")
"""What else is asked of it: a wrong special token is found only then."""

QUANTISED = "Use the checkpoint that it was quantised from, or a GGUF file"


def read_json(path: Path, most_bytes: int = MOST_BYTES, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing, holds something else, or is larger than such a file can be.
    """
    try:
        content = parse_bounded(read_bounded(path, most_bytes), most_values)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: expected a {path.name}, found none. Is this a model's folder?"
        ) from error
    except TooLarge as error:
        raise CheckpointError(f"{path}: expected {error}. Is it the file that the model was published with?") from error
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
            most = MOST_LAYERS if key.endswith(LAYERS) else MOST
            if key.endswith(COUNTS) and isinstance(value, int | float) and value > most:
                raise CheckpointError(f"{path}: expected at most {most:,} for {key!r}, found {value:,}.")
    return name


def load_config(folder: Path) -> PretrainedConfig:
    """The model's config as transformers reads it; code from the folder is never run."""
    from transformers import AutoConfig

    escape_log()
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

    escape_log()
    check_tokenizer(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer(list(SAMPLES))
        for name in ASKED:
            getattr(tokenizer, name)
        return tokenizer
    except BaseException as error:  # a panic in Rust is no `Exception`
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise CheckpointError(
            f"{folder}: expected a tokenizer (tokenizer.json, or the files that the model's own tokenizer needs), "
            f"found none that transformers can read ({_first_line(error)})."
        ) from error


def unreadable(where: Path, error: Exception) -> CheckpointError:
    """The error for a config that transformers refuses."""
    return CheckpointError(f"{where}: transformers cannot read this config ({_first_line(error)}).")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".: ")
