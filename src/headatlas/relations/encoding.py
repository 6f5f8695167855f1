"""Words to token ids: the pairs whose words are one token each, and why the other pairs are dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headatlas.errors import CheckpointError, SettingsError
from headatlas.relations.relation import Relation
from headatlas.settings import MIN_PAIRS, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DROP_REASONS = ("source", "target", "duplicate")
"""Why a pair is dropped: this word is not one known token, or an earlier pair has the same tokens."""

PROBES = ("the", "of", "and", "time", "house")


class DroppedPair(NamedTuple):
    """A pair that is not measured, and the first of DROP_REASONS that applies."""

    source: str
    target: str
    reason: str


@dataclass(frozen=True)
class EncodedRelation:
    """The pairs of a relation whose words are one token each, with their token ids, and the dropped pairs.

    Args:
        relation: the relation before encoding.
        k: a target counts if it is among this many highest (lowest) logits of this model.
        pairs, source_ids, target_ids: the kept pairs and their token ids, all of the same length.
        dropped: the other pairs.
    """

    relation: Relation
    k: int
    pairs: tuple[tuple[str, str], ...]
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    dropped: tuple[DroppedPair, ...]

    def count_dropped(self, reason: str) -> int:
        """Number of pairs dropped for one of DROP_REASONS."""
        return sum(pair.reason == reason for pair in self.dropped)

    @property
    def name(self) -> str:
        return self.relation.name

    @property
    def measurable(self) -> bool:
        return len(self.pairs) >= MIN_PAIRS

    @property
    def hash(self) -> str:
        """SHA-256 of the relation and its token ids."""
        ids = f"{self.relation.hash} {self.k} {self.source_ids} {self.target_ids}"
        return hashlib.sha256(ids.encode()).hexdigest()


def encode_relations(
    relations: list[Relation], tokenizer: PreTrainedTokenizerBase, d_vocab: int, settings: Settings
) -> list[EncodedRelation]:
    """Encode the words of all relations, each with a leading space and without special tokens.

    If the tokenizer itself adds a space before the first word (SentencePiece families), the bare word is encoded.

    Args:
        d_vocab: rows of the model's unembedding; a larger token id means that the tokenizer is from another model.

    Raises:
        CheckpointError: the tokenizer has more tokens than the model.
        SettingsError: k is not less than the number of tokens, so that every target would be a hit.
    """
    ids = single_token_ids({word for relation in relations for pair in relation.pairs for word in pair}, tokenizer)
    check_ids((token for token in ids.values() if token is not None), d_vocab)
    encoded = [_encode(relation, ids, settings) for relation in relations]
    for each in encoded:
        check_k(each.k, d_vocab, f" for the relation {each.name!r}")
    return encoded


def check_ids(ids: Iterable[int], d_vocab: int) -> None:
    """Raises `CheckpointError` if the tokenizer has more tokens than the model."""
    if (largest := max(ids, default=0)) >= d_vocab:
        raise CheckpointError(
            f"tokenizer: expected token ids below {d_vocab}, the model's number of tokens, found {largest}. "
            f"Is the tokenizer from the same model?"
        )


def check_k(k: int, d_vocab: int, of: str = "") -> None:
    """Raises `SettingsError` if every token would be among the `k` highest; `of` says which k that is."""
    if k >= d_vocab:
        raise SettingsError(
            f"k: expected less than {d_vocab:,}, the model's number of tokens, found {k:,}{of}. "
            f"Every token would be among the {k:,} highest."
        )


def token_ids_of(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The token ids of each text, without special tokens.

    Raises:
        CheckpointError: the tokenizer cannot encode one of them.
    """
    if not texts:
        return []
    try:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]
    except BaseException as error:  # a panic in Rust is no `Exception`
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(
            "tokenizer: expected token ids for words, found an inconsistent tokenizer that fails on one of them. Use "
            "the tokenizer that the model was published with."
        ) from error


def adds_prefix_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word at the start of a text becomes the same token as inside a sentence."""
    bare = token_ids_of(list(PROBES), tokenizer)
    inside = token_ids_of([f"a {word}" for word in PROBES], tokenizer)
    unknown = set(tokenizer.all_special_ids)
    # Words that the tokenizer does not know show nothing.
    known = [(word, sentence) for word, sentence in zip(bare, inside, strict=True) if word and not unknown & {*word}]
    return bool(known) and all(word == sentence[-len(word) :] for word, sentence in known)


def token_ids(words: set[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[int, ...] | None]:
    """The tokens of each word; None if there are none or the tokenizer does not know a part of the word."""
    ordered = sorted(words)
    space = "" if adds_prefix_space(tokenizer) else " "
    encoded = token_ids_of([space + word for word in ordered], tokenizer)
    special = set(tokenizer.all_special_ids)
    return {
        word: tuple(ids) if ids and not special & {*ids} else None for word, ids in zip(ordered, encoded, strict=True)
    }


def single_token_ids(words: set[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """The token id of each word; None if the word is several tokens or a special token."""
    found = token_ids(words, tokenizer)
    return {word: ids[0] if ids is not None and len(ids) == 1 else None for word, ids in found.items()}


def shows_something(token: int, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a token is more than white space."""
    return bool(str(tokenizer.decode([token])).strip())


def _encode(relation: Relation, ids: dict[str, int | None], settings: Settings) -> EncodedRelation:
    kept: dict[tuple[int, int], tuple[str, str]] = {}
    dropped = []
    for source, target in relation.pairs:
        source_id, target_id = ids[source], ids[target]
        if source_id is None:
            dropped.append(DroppedPair(source, target, "source"))
        elif target_id is None:
            dropped.append(DroppedPair(source, target, "target"))
        elif (source_id, target_id) in kept:
            dropped.append(DroppedPair(source, target, "duplicate"))
        else:
            kept[source_id, target_id] = (source, target)
    k = {"standard": settings.k, "copying": settings.k_copying}.get(relation.k, relation.k)  # type: ignore[call-overload]
    return EncodedRelation(
        relation=relation,
        k=k,
        pairs=tuple(kept.values()),
        source_ids=tuple(source for source, _ in kept),
        target_ids=tuple(target for _, target in kept),
        dropped=tuple(dropped),
    )
