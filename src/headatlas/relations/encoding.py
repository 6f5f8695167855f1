"""Words to token ids: the pairs of which both words are one token, and why the others drop out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.errors import CheckpointError
from headatlas.relations.relation import Relation
from headatlas.settings import MIN_PAIRS, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DROP_REASONS = ("source", "target", "duplicate")
"""Why a pair is left out: this word is not one known token, or the same two tokens stood there before."""

PROBES = ("the", "of", "and", "time", "house")


@dataclass(frozen=True)
class EncodedRelation:
    """A relation's pairs of which both words are one token, and the count of those that are not.

    Args:
        relation: what was encoded.
        k: the number of highest (lowest) logits among which a target counts, on this model.
        pairs, source_ids, target_ids: the kept pairs and their token ids, all of the same length.
        dropped: the other pairs as (source, target, reason), the first of DROP_REASONS that holds.
    """

    relation: Relation
    k: int
    pairs: tuple[tuple[str, str], ...]
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    dropped: tuple[tuple[str, str, str], ...]

    def count_dropped(self, reason: str) -> int:
        """Number of pairs left out for one of DROP_REASONS."""
        return sum(why == reason for _, _, why in self.dropped)

    @property
    def name(self) -> str:
        return self.relation.name

    @property
    def measurable(self) -> bool:
        return len(self.pairs) >= MIN_PAIRS

    @property
    def hash(self) -> str:
        """SHA-256 over the relation and the token ids that it became."""
        ids = f"{self.relation.hash} {self.k} {self.source_ids} {self.target_ids}"
        return hashlib.sha256(ids.encode()).hexdigest()


def encode_relations(
    relations: list[Relation], tokenizer: PreTrainedTokenizerBase, d_vocab: int, settings: Settings
) -> list[EncodedRelation]:
    """Encode every relation's words, each with a leading space and without special tokens.

    Where the tokenizer itself puts a space before the first word (SentencePiece families), the bare word is encoded.

    Args:
        d_vocab: rows of the model's unembedding; a token id beyond it means that the tokenizer is another model's.

    Raises:
        CheckpointError: the tokenizer has more tokens than the model.
    """
    ids = single_token_ids({word for relation in relations for pair in relation.pairs for word in pair}, tokenizer)
    largest = max((token for token in ids.values() if token is not None), default=0)
    if largest >= d_vocab:
        raise CheckpointError(
            f"tokenizer: gives the token id {largest}, but the model has only {d_vocab} tokens. "
            f"Is the tokenizer from the same model?"
        )
    return [_encode(relation, ids, settings) for relation in relations]


def adds_prefix_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word at the start of a text gets the token that it has inside a sentence."""
    bare = tokenizer(list(PROBES), add_special_tokens=False)["input_ids"]
    inside = tokenizer([f"a {word}" for word in PROBES], add_special_tokens=False)["input_ids"]
    unknown = set(tokenizer.all_special_ids)
    # A tokenizer that knows none of these words says nothing by them.
    known = [(word, sentence) for word, sentence in zip(bare, inside, strict=True) if word and not unknown & {*word}]
    return bool(known) and all(word == sentence[-len(word) :] for word, sentence in known)


def single_token_ids(words: set[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """The token that each word is; None where it is several, or one that stands for no text."""
    ordered = sorted(words)
    space = "" if adds_prefix_space(tokenizer) else " "
    encoded = tokenizer([space + word for word in ordered], add_special_tokens=False)["input_ids"] if ordered else []
    special = set(tokenizer.all_special_ids)
    return {
        word: ids[0] if len(ids) == 1 and ids[0] not in special else None
        for word, ids in zip(ordered, encoded, strict=True)
    }


def _encode(relation: Relation, ids: dict[str, int | None], settings: Settings) -> EncodedRelation:
    kept: dict[tuple[int, int], tuple[str, str]] = {}
    dropped = []
    for source, target in relation.pairs:
        source_id, target_id = ids[source], ids[target]
        if source_id is None:
            dropped.append((source, target, "source"))
        elif target_id is None:
            dropped.append((source, target, "target"))
        elif (source_id, target_id) in kept:
            dropped.append((source, target, "duplicate"))
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
