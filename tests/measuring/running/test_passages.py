"""What is shown to the model: repeated random tokens, and text in pieces."""

import tomllib

import pytest
import torch

from headatlas.errors import SettingsError
from headatlas.measuring.running.passages import (
    LEAST_TEXT,
    PASSAGES,
    RANDOM_TOKENS,
    kinds_of,
    load_text,
    repeated_tokens,
    text_pieces,
)
from models import make_tokenizer
from planted import WORDS

D_VOCAB = 101


def test_random_tokens_are_shown_twice():
    ordinary = list(range(7, 90))
    found = repeated_tokens(ordinary, 8, None, 3, seed=5)
    assert found.shape == (3, 1 + 2 * RANDOM_TOKENS) and (found[:, 0] == 8).all()
    first, second = found[:, 1 : 1 + RANDOM_TOKENS], found[:, 1 + RANDOM_TOKENS :]
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])
    for tokens in first.tolist():
        assert len(set(tokens)) == RANDOM_TOKENS and set(tokens) <= set(ordinary) - {8}
    assert torch.equal(found, repeated_tokens(ordinary, 8, None, 3, seed=5))
    assert not torch.equal(found, repeated_tokens(ordinary, 8, None, 3, seed=6))


@pytest.mark.parametrize("most, length", [(9, 4), (24, 11), (500, 48)])
def test_a_model_that_reads_few_tokens_gets_few(most, length):
    assert repeated_tokens(range(90), 0, most, 1, 0).shape[1] == 1 + 2 * length


@pytest.mark.parametrize("ordinary, most", [(range(4), None), (range(90), 8)])
def test_a_model_that_is_too_small_is_refused(ordinary, most):
    with pytest.raises(SettingsError, match=r"expected at least 4 ordinary tokens and 9 positions, found .* too small"):
        repeated_tokens(ordinary, 0, most, 1, 0)


def test_text_comes_in_pieces_of_one_length():
    text = " " + " ".join(WORDS[number % 81] for number in range(1007))
    pieces = text_pieces(text, make_tokenizer(WORDS), D_VOCAB, 77, 100, "t")
    assert pieces.shape == (11, 1 + 91) and (pieces[:, 0] == 77).all()
    assert pieces[:, 1:].flatten().tolist() == [1 + number % 81 for number in range(11 * 91)]
    assert text_pieces(text, make_tokenizer(WORDS), D_VOCAB, 77, None, "t").shape == (4, 1 + 251)


@pytest.mark.parametrize(
    "text, message",
    [
        ("ba " * 40, "t: expected a text of at least 500 tokens, found 40"),
        (" xyzzy" * LEAST_TEXT, "t: expected a text that this model's tokenizer knows, found 500 of 500 tokens"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(text, message):
    with pytest.raises(SettingsError, match=message):
        text_pieces(" " + text.strip(), make_tokenizer(WORDS), D_VOCAB, 0, None, "t")


def test_a_text_with_tokens_beyond_the_model_is_refused():
    text = " " + " ".join(WORDS) * 10
    with pytest.raises(SettingsError, match=r"found .* tokens that are unknown"):
        text_pieces(text, make_tokenizer(WORDS), 40, 0, None, "t")


def test_words_and_delimiters():
    kinds = kinds_of([" Paris", "paris", "Paris ", ",", '."', "\n", " ", "", "7", " 7,", "é", "-"])
    assert kinds.words.tolist() == [0, 0, 0, -1, -1, -1, -1, -1, -1, -1, 1, -1]
    assert kinds.delimiters.nonzero().flatten().tolist() == [3, 4, 5, 11]


def test_the_packages_own_text():
    """In the folder that the wheel takes whole, with its licence, and long enough: at least 4,000 tokens."""
    facts = tomllib.loads(PASSAGES.read_text("utf-8"))
    assert (facts["license"], facts["authors"]) == ("CC0-1.0", "headatlas authors")
    genres = [each["genre"] for each in facts["passages"]]
    assert len(set(genres)) == len(genres) >= 10
    text = load_text()
    assert text.startswith("Ferry returns") and len(text.split()) > 2800 and "\n\n" in text


def test_the_packages_own_text_has_enough_tokens():
    from headatlas.architectures.open import open_checkpoint
    from needs import need_demo_model

    need_demo_model()
    tokenizer = open_checkpoint("demo").load_tokenizer()
    assert len(tokenizer(load_text(), add_special_tokens=False)["input_ids"]) >= 4000
