"""The texts of a model's tokens: which of them are words."""

import pytest

from headatlas.measuring.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ((" the", "ing", " a", " x2", " Größe", " two words", "."), [0, 4]),
        (("the", "x2", "ing"), [0, 2]),
    ],
)
def test_words_begin_with_a_space_unless_the_tokenizer_keeps_none(texts, words):
    assert Vocabulary(texts, (None,) * len(texts)).words() == words


def test_junk_is_no_word():
    assert Vocabulary((" one", " two"), ("special", None)).words() == [1]
