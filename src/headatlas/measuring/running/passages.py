"""Sequences that `attention` shows to the running model: repeated random tokens, and ordinary text in pieces.

Knows words and tokens, no model. Every sequence begins with a prefix token, which is the first token that heads may use
as a sink.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.errors import SettingsError
from headatlas.measuring.running.contexts import load_toml
from headatlas.regular_files import read_regular_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

PASSAGES = Path(__file__).parent / "data" / "passages.toml"

RANDOM_TOKENS, PIECE = 48, 256
"""Random tokens, which a sequence shows twice; most tokens of a piece of text, its prefix included."""

LEAST_RANDOM, LEAST_TEXT = 4, 500
"""Fewest random tokens of a sequence, and tokens of a text."""

MOST_UNKNOWN = 0.5
"""Largest share of a text's tokens that may be unknown to the tokenizer."""


def load_text(path: str | Path | None = None) -> str:
    """A file of plain text; without one, the package's own passages, a blank line between them.

    Raises:
        SettingsError: the file cannot be read, or is not text in UTF-8.
    """
    if path is None:
        return "\n\n".join(str(each["text"]).strip() for each in load_toml(PASSAGES)["passages"])
    try:
        return read_regular_text(Path(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: expected a text in UTF-8, found other bytes.") from error


def repeated_tokens(
    ordinary: Sequence[int], prefix: int, most: int | None, n_sequences: int, seed: int, n_random: int = RANDOM_TOKENS
) -> Tensor:
    """The prefix and different random tokens, twice in the same order: Int[Tensor, "n_sequences n_tokens"].

    Args:
        ordinary: tokens to draw from; the prefix is not drawn.
        most: tokens that a sequence can have; None: any number.
        n_random: different tokens, if the model has and reads so many.

    Raises:
        SettingsError: the model has too few tokens, or reads too few at once.
    """
    import torch

    known = [token for token in ordinary if token != prefix]
    n_random = min(n_random, len(known), n_random if most is None else (most - 1) // 2)
    if n_random < LEAST_RANDOM:
        raise SettingsError(
            f"tokens: expected at least {LEAST_RANDOM} ordinary tokens and {1 + 2 * LEAST_RANDOM} positions, found "
            f"{len(known)} and {most}. This model is too small to measure where its heads look."
        )
    generator = random.Random(f"{seed} repeated tokens")
    drawn = [generator.sample(known, n_random) for _ in range(n_sequences)]
    return torch.tensor([[prefix, *tokens, *tokens] for tokens in drawn])


def text_pieces(
    text: str, tokenizer: PreTrainedTokenizerBase, d_vocab: int, prefix: int, most: int | None, where: object
) -> Tensor:
    """A text in pieces of one length, each behind the prefix: Int[Tensor, "n_pieces n_tokens"].

    Fewer tokens than there are pieces are left over at the end.

    Args:
        most: as for `repeated_tokens`.
        where: the file, for messages.

    Raises:
        SettingsError: the text is too short, or its tokens are unknown to the model.
    """
    import torch

    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < LEAST_TEXT:
        raise SettingsError(f"{where}: expected a text of at least {LEAST_TEXT} tokens, found {len(ids)}.")
    unknown = sum(token == tokenizer.unk_token_id or token >= d_vocab for token in ids)
    if unknown > MOST_UNKNOWN * len(ids) or max(ids) >= d_vocab:
        raise SettingsError(
            f"{where}: expected a text that this model's tokenizer knows, found {unknown} of {len(ids)} tokens that "
            f"are unknown. Name another text with --text."
        )
    n_pieces = -(-len(ids) // (min(PIECE, most or PIECE) - 1))
    length = len(ids) // n_pieces
    pieces = torch.tensor(ids[: n_pieces * length]).view(n_pieces, length)
    return torch.cat([torch.full((n_pieces, 1), prefix), pieces], 1)


@dataclass(frozen=True)
class TokenKinds:
    """What tokens are, by token id.

    Args:
        words: a number for each word, whatever its case and space; -1 for tokens without a letter.
        delimiters: tokens of punctuation, and line breaks.
    """

    words: Tensor
    delimiters: Tensor


def kinds_of(texts: Sequence[str]) -> TokenKinds:
    """The kinds of a vocabulary.

    Args:
        texts: of each token.

    >>> kinds = kinds_of([" The", "the", ",", "\\n\\n", " 7", "."])
    >>> kinds.words.tolist(), kinds.delimiters.tolist()
    ([0, 0, -1, -1, -1, -1], [False, False, True, True, False, True])
    """
    import torch

    numbers: dict[str, int] = {}
    words, delimiters = [], []
    for text in texts:
        word = text.strip().lower()
        words.append(numbers.setdefault(word, len(numbers)) if any(map(str.isalpha, word)) else -1)
        delimiters.append(bool(text) and not any(map(str.isalnum, text)) and ("\n" in text or bool(word)))
    return TokenKinds(torch.tensor(words), torch.tensor(delimiters))
