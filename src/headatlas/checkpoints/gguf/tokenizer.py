"""The tokenizer inside a GGUF file, built by transformers from a vocabulary that is checked first.

No other file is read, and no code is run: the file holds only a vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headatlas.checkpoints.config import SAMPLES
from headatlas.checkpoints.gguf.header import GgufHeader
from headatlas.checkpoints.gguf.metadata import SPECIAL_TOKENS
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEYS = {
    "ggml.model": "tokenizer_type",
    "ggml.pre": "pre_tokenizer_type",
    "ggml.tokens": "tokens",
    "ggml.scores": "scores",
    "ggml.token_type": "token_type",
    "ggml.merges": "merges",
}
"""Key in the file (after `tokenizer.`) -> name in transformers' own table."""

SPECIAL = SPECIAL_TOKENS | {"unk": "unknown"}


def load_tokenizer(header: GgufHeader) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers builds it from such a file.

    Raises:
        CheckpointError: there is none, or transformers cannot build it.
    """
    import numpy as np
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

    content: dict[str, Any] = {}
    for key, name in KEYS.items():
        key = f"tokenizer.{key}"
        if key in header.metadata:
            content[name] = header.strings(key) if key in header.strings_at else header.metadata[key]
    tokens = content.get("tokens")
    if not isinstance(tokens, list) or not tokens:
        raise CheckpointError(f"{header.path}: expected a tokenizer, found none. Use a file that holds its tokenizer.")
    for name in ("scores", "token_type"):
        if name in content:
            n_values = len(content[name]) if isinstance(content[name], np.ndarray) else 0
            if n_values != len(tokens):
                raise CheckpointError(
                    f"{header.path}: expected {len(tokens)} numbers for 'tokenizer.ggml.{name}', one per token, found "
                    f"{n_values}. Fetch the file again."
                )
            content[name] = content[name].tolist()
    options: dict[str, Any] = {}
    for name, key in SPECIAL.items():
        number = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and not 0 <= number < len(tokens):
            raise CheckpointError(
                f"{header.path}: expected 'tokenizer.ggml.{key}_token_id' below {len(tokens)}, the number of tokens, "
                f"found {number}. Fetch the file again."
            )
        options[f"{name}_token"] = tokens[number] if isinstance(number, int) else None
    for name in ("add_bos_token", "add_eos_token"):
        if isinstance(flag := header.metadata.get(f"tokenizer.ggml.{name}"), bool):
            options[name] = flag
    if content.get("tokenizer_type") == "llama":
        options.setdefault("add_bos_token", True)  # as llama.cpp does
    try:
        tokenizer, more = convert_gguf_tokenizer(header.metadata["general.architecture"], content)
        built = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options, **more)
        built(list(SAMPLES))
        return built
    # Inconsistent data fails in many ways, also inside Rust, whose panics are not an `Exception`.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        kind = content.get("tokenizer_type")
        raise CheckpointError(
            f"{header.path}: transformers cannot build a tokenizer of the kind {kind!r} from this file "
            f"({type(error).__name__}). Use the model's safetensors checkpoint."
        ) from error
