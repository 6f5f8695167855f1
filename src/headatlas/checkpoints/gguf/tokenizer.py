"""The tokenizer inside a GGUF file, built by transformers from words that were checked before.

Nothing beside the file is read, and no code from it is run: a vocabulary is all it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
"""Key in the file (behind `tokenizer.`) -> name in transformers' own table."""

SPECIAL = SPECIAL_TOKENS | {"unk": "unknown"}


def load_tokenizer(header: GgufHeader) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers makes it from such a file.

    Raises:
        CheckpointError: there is none, or it is of a kind that transformers cannot make.
    """
    import numpy as np
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

    content: dict[str, Any] = {}
    for key, name in KEYS.items():
        key = f"tokenizer.{key}"
        if key in header.metadata:
            content[name] = header.words(key) if key in header.words_at else header.metadata[key]
    words = content.get("tokens")
    if not isinstance(words, list) or not words:
        raise CheckpointError(f"{header.path}: expected a tokenizer, found none. Use a file that holds its tokenizer.")
    for name in ("scores", "token_type"):
        if name in content:
            n_values = len(content[name]) if isinstance(content[name], np.ndarray) else 0
            if n_values != len(words):
                raise CheckpointError(
                    f"{header.path}: expected {len(words)} numbers for 'tokenizer.ggml.{name}', one per token, found "
                    f"{n_values}. Fetch the file again."
                )
            content[name] = content[name].tolist()
    options: dict[str, Any] = {}
    for name, key in SPECIAL.items():
        number = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and not 0 <= number < len(words):
            raise CheckpointError(
                f"{header.path}: expected 'tokenizer.ggml.{key}_token_id' below {len(words)}, the number of tokens, "
                f"found {number}. Fetch the file again."
            )
        options[f"{name}_token"] = words[number] if isinstance(number, int) else None
    for name in ("add_bos_token", "add_eos_token"):
        if isinstance(flag := header.metadata.get(f"tokenizer.ggml.{name}"), bool):
            options[name] = flag
    if content.get("tokenizer_type") == "llama":
        options.setdefault("add_bos_token", True)  # as llama.cpp does
    try:
        tokenizer, more = convert_gguf_tokenizer(header.metadata["general.architecture"], content)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options, **more)
    # What makes no sense fails in many ways, also inside Rust, whose panics are no `Exception`.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        kind = content.get("tokenizer_type")
        raise CheckpointError(
            f"{header.path}: transformers cannot make a tokenizer of the kind {kind!r} from this file "
            f"({type(error).__name__}). Use the model's safetensors checkpoint."
        ) from error
