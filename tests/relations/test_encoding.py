"""Words to tokens: the leading space, what drops out and why, and tokenizers that are not the model's."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from headatlas.errors import CheckpointError, SettingsError
from headatlas.relations import DROP_REASONS, Relation, encode_relations
from headatlas.relations.encoding import PROBES, adds_prefix_space, token_ids_of
from headatlas.settings import Settings

WORDS = ["France", "Paris", "Japan", "Tokyo", *PROBES, "a"]


def tokenizer(prefix_space: str, marker: str = "▁") -> PreTrainedTokenizerFast:
    """One token per known word behind a space, one per character otherwise; as SentencePiece models are stored."""
    characters = sorted({marker, *"".join(WORDS), "N", "w", "Y", "k", "z"})
    vocab = {token: number for number, token in enumerate(["<unk>", *characters, *(marker + word for word in WORDS)])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=_merges(vocab, marker), unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(replacement=marker, prepend_scheme=prefix_space)
    inner.decoder = decoders.Metaspace(replacement=marker, prepend_scheme=prefix_space)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def _merges(vocab: dict, marker: str) -> list[tuple[str, str]]:
    merges = []
    for word in WORDS:
        left = marker
        for character in word:
            vocab.setdefault(left + character, len(vocab))
            if (left, character) not in merges:
                merges.append((left, character))
            left += character
    return merges


SETTINGS = Settings()


@pytest.mark.parametrize(("scheme", "adds"), [("never", False), ("always", True), ("first", True)])
def test_the_space_is_added_once(scheme, adds):
    tok = tokenizer(scheme)
    assert adds_prefix_space(tok) == adds
    (encoded,) = encode_relations([Relation("r", (("France", "Paris"), ("Japan", "Tokyo")))], tok, 1_000, SETTINGS)
    assert tok.convert_ids_to_tokens(encoded.source_ids) == ["▁France", "▁Japan"]
    assert tok.convert_ids_to_tokens(encoded.target_ids) == ["▁Paris", "▁Tokyo"]


def test_a_tokenizer_that_knows_no_probe_gets_the_space():
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "ĠFrance": 1, "ĠParis": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    (encoded,) = encode_relations([Relation("r", (("France", "Paris"),))], tok, 1_000, SETTINGS)
    assert (encoded.source_ids, encoded.target_ids) == ((1,), (2,))


def test_what_drops_out_is_counted():
    pairs = (
        ("France", "Paris"),
        ("France", "Paris"),
        ("France", "Tokyo"),
        ("New", "Paris"),
        ("New", "York"),
        ("France", "York"),
        ("France", "Ω"),
        ("<unk>", "Paris"),
    )
    (encoded,) = encode_relations([Relation("r", pairs)], tokenizer("never"), 1_000, SETTINGS)
    assert encoded.pairs == (("France", "Paris"), ("France", "Tokyo"))
    assert [encoded.count_dropped(reason) for reason in DROP_REASONS] == [3, 2, 1]
    assert ("France", "York", "target") in encoded.dropped and ("New", "York", "source") in encoded.dropped
    assert len(encoded.pairs) + len(encoded.dropped) == len(pairs)
    assert not encoded.measurable


@pytest.mark.parametrize(("k", "expected"), [("standard", 7), ("copying", 1), (4, 4)])
def test_k_follows_the_class(k, expected):
    relation = Relation("r", (("France", "Paris"),), k=k)
    (encoded,) = encode_relations([relation], tokenizer("never"), 1_000, Settings(k=7))
    assert encoded.k == expected


def test_thirty_pairs_are_measurable_and_twenty_nine_are_not():
    words = [f"▁{word}" for word in WORDS]
    assert len(words) == 10
    pairs = tuple((source, target) for source in WORDS for target in WORDS[:3])
    for n, measurable in ((30, True), (29, False)):
        (encoded,) = encode_relations([Relation("r", pairs[:n])], tokenizer("never"), 1_000, SETTINGS)
        assert len(encoded.pairs) == n and encoded.measurable == measurable


def test_a_tokenizer_of_another_model_is_refused():
    tok = tokenizer("never")
    largest = max(tok.convert_tokens_to_ids([f"▁{word}" for word in ("France", "Paris")]))
    with pytest.raises(CheckpointError) as caught:
        encode_relations([Relation("r", (("France", "Paris"),))], tok, largest, SETTINGS)
    assert str(caught.value) == (
        f"tokenizer: expected token ids below {largest}, the model's number of tokens, found {largest}. "
        f"Is the tokenizer from the same model?"
    )


@pytest.mark.parametrize("k", [1_000, 2**63])
def test_a_k_of_the_whole_vocabulary_is_refused(k):
    """Every target would be a hit."""
    relation = Relation("r", (("France", "Paris"),))
    with pytest.raises(SettingsError) as caught:
        encode_relations([relation], tokenizer("always"), 1_000, Settings(k=k))
    assert str(caught.value) == (
        f"k: expected less than 1,000, the model's number of tokens, found {k:,} for the relation 'r'. Every token "
        f"would be among the {k:,} highest."
    )
    assert encode_relations([relation], tokenizer("always"), 1_000, Settings(k=999))[0].k == 999


class PanicException(BaseException):
    """As Rust's panics reach Python."""


def test_a_tokenizer_that_panics_is_refused():
    def tokenizer(texts, **_):
        raise PanicException("index out of bounds")

    with pytest.raises(CheckpointError, match="found an inconsistent tokenizer that fails on one of them"):
        token_ids_of(["a"], tokenizer)
