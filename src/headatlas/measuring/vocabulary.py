"""What the tokens of a model read, and which of them are junk: nothing that a person would call a piece of text.

Junk, by the first reason that holds: `padding` (the model has a row for it, the tokenizer no token), `special` (special
and added tokens), `unused` (placeholders such as `[unused7]`), `bytes` (part of a character only), `empty`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JUNK = ("padding", "special", "unused", "bytes", "empty")

_UNUSED = re.compile(r"[\[<]?\|?_*(unused|reserved|extra_id|padding|placeholder|dummy)[ _a-z-]*\d+_*\|?[\]>]?", re.I)
_SPACED = re.compile(r" [^\W\d_]{2,}")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """The text of each token of a model.

    Args:
        texts: by token id, a leading space kept; junk may be shown by the tokenizer's own name for it.
        junk: by token id, one of JUNK, or None for a piece of text.
    """

    texts: tuple[str, ...]
    junk: tuple[str | None, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many tokens are junk, by reason."""
        found = Counter(self.junk)
        return {reason: found[reason] for reason in JUNK}

    def ids(self, junk: bool) -> list[int]:
        """All tokens, or those that are not junk, in ascending order."""
        return [token for token, why in enumerate(self.junk) if junk or why is None]

    def words(self) -> list[int]:
        """Tokens that can be whole words, in ascending order.

        Those of a space and letters or, if the tokenizer keeps no spaces, all tokens of letters.
        """
        spaced = [token for token in self.ids(junk=False) if _SPACED.fullmatch(self.texts[token])]
        return spaced or [token for token in self.ids(junk=False) if self.texts[token].isalpha()]


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, d_vocab: int) -> Vocabulary:
    """The texts of a model's tokens.

    Args:
        d_vocab: rows of the model's unembedding; there may be more than tokens.
    """
    names = {token: name for name, token in tokenizer.get_vocab().items() if token < d_vocab}
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    plain = [token for token in sorted(names) if token not in special]
    read = dict(zip(plain, _texts(tokenizer, plain, names), strict=True))
    texts, junk = [], []
    for token in range(d_vocab):
        text = read.get(token, names.get(token, ""))
        texts.append(text)
        if token not in names:
            junk.append("padding")
        elif token in special:
            junk.append("special")
        elif _UNUSED.fullmatch(text.strip()):
            junk.append("unused")
        elif "\ufffd" in text or _BYTE.fullmatch(names[token]):
            junk.append("bytes")
        else:
            junk.append(None if text else "empty")
    return Vocabulary(tuple(texts), tuple(junk))


def _texts(tokenizer: PreTrainedTokenizerBase, tokens: list[int], names: dict[int, str]) -> list[str]:
    """What each token reads behind another one, as some tokenizers drop the space at the start of a text."""

    def decode(lists: list[list[int]]) -> list[str]:
        return tokenizer.batch_decode(lists, clean_up_tokenization_spaces=False)

    before = next((token for token in tokens if names[token].isascii() and names[token].isalpha()), None)
    if before is None:
        return decode([[token] for token in tokens])
    (start,) = decode([[before]])
    both = decode([[before, token] for token in tokens])
    return [
        text.removeprefix(start) if text.startswith(start) else decode([[token]])[0]
        for token, text in zip(tokens, both, strict=True)
    ]
