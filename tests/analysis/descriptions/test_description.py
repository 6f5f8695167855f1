"""Descriptions of planted operations: each type of finding appears if it is there, and "unclear" if there is none."""

import numpy as np
import pytest

from headatlas.analysis.descriptions.description import (
    UNCLEAR,
    KnownRelation,
    Operation,
    _Candidates,
    _rule,
    describe,
    usual_words,
)
from headatlas.analysis.descriptions.neighbourhood import Neighbourhood
from headatlas.analysis.descriptions.rules import all_rules

WORDS = ["Paris", "apple", "stone", "river", "cloud", "music", "winter", "garden", "market", "bottle", "yellow", "frog"]
NOISE = ["qzv", "xjk", "wvq", "zzk", "kqx", "vjw", "jqz", "xwz", "qkv", "zxv", "kjq", "wqz"]


def operations(promoted, suppressed=None, sources=WORDS):
    """Each source with the words it is mapped to; ids are places in a list of all words."""
    known = {}

    def with_ids(words):
        return tuple((known.setdefault(word, len(known)), f" {word}") for word in words)

    suppressed = suppressed or [[noise] for noise in NOISE]
    return [
        Operation(known.setdefault(source, len(known)), f" {source}", with_ids(high), with_ids(low))
        for source, high, low in zip(sources, promoted, suppressed, strict=True)
    ]


def test_nothing_is_unclear():
    found = describe(operations([[noise, noise[::-1]] for noise in NOISE]))
    assert (found.text, found.rule, found.confidence) == (UNCLEAR, UNCLEAR, 0.0)
    assert describe([]).rule == UNCLEAR
    assert describe(operations([[word] for word in WORDS])[:4]).rule == UNCLEAR  # too few to show anything


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (str, "same word"),
        (str.upper, "uppercase"),
        (lambda word: word + "s", "+s"),
        (lambda word: "un" + word, "un-"),
        (lambda word: word[0], "first letter"),
        (lambda word: word[-2:], "last letters"),
        (lambda word: word[:4] + "qq", "spelt alike"),
    ],
)
def test_a_planted_rule_is_named_with_its_share(made, rule):
    promoted = [[noise, made(word)] for word, noise in zip(WORDS, NOISE, strict=True)]
    promoted[-3:] = [[noise] for noise in NOISE[-3:]]
    found = describe(operations(promoted))
    assert (found.rule, found.confidence) == (rule, 0.75)
    assert found.text.startswith("Promotes ") and f"Paris → {made('Paris')}" in found.text


def test_suppression_has_rules_of_its_own():
    found = describe(operations([[noise] for noise in NOISE], [[word] for word in WORDS]))
    assert found.rule == "same word (suppressed)"
    assert found.text.startswith("Suppresses the same word again (Paris → Paris")


def test_numbers_in_order_and_translations():
    numbers = [str(number) for number in range(20, 32)]
    found = describe(operations([[str(int(number) + 1)] for number in numbers], sources=numbers))
    assert found.rule == "next in order"
    pairs = [("house", "maison"), ("water", "eau"), ("night", "nuit"), ("dog", "chien"), ("cat", "chat")]
    found = describe(operations([[pair[1]] for pair in pairs], [["x"]] * 5, sources=[pair[0] for pair in pairs]))
    assert (found.rule, found.text[:33]) == ("english_to_french", "Promotes English words in French ")


def test_chance_is_the_mean_over_all_re_pairings():
    copied = operations([[word] for word in WORDS])
    found = _rule(all_rules()[0], _Candidates(copied, "promoted"), "promoted", "promotes")
    assert (found.share, found.chance) == (1.0, 0.0)
    alike = operations([["Paris"]] * 12, sources=["Paris"] * 4 + WORDS[4:])
    found = _rule(all_rules()[0], _Candidates(alike, "promoted"), "promoted", "promotes")
    assert (found.share, found.chance) == (4 / 12, 4 / 12)


def test_rules_that_shuffled_mappings_also_satisfy_are_not_reported():
    """All words begin with the same letter, so that it says nothing that mapped words do too."""
    sources = [f"b{noise}" for noise in NOISE]
    promoted = [[f"b{noise[::-1]}a"] for noise in NOISE]
    assert describe(operations(promoted, sources=sources)).rule == UNCLEAR


def test_the_same_words_whatever_the_token():
    always = operations([["their", noise] for noise in NOISE])
    found = describe(always)
    assert (found.rule, found.text) == ("constant", "Promotes their whatever the token")
    assert describe(always, usual=usual_words([always])).rule == UNCLEAR  # every head does so
    most = operations([["their", noise] for noise in NOISE[:7]] + [[noise] for noise in NOISE[7:]])
    assert describe(most).text == "Promotes their for most tokens that it amplifies"


def test_known_relations_come_with_their_scores():
    relations = [KnownRelation(name, score, chance) for name, score, chance in
                 (("a", 0.9, 0.8), ("b", 0.6, 0.1), ("c", 0.2, 0.0), ("d", 0.2, 0.05))]  # fmt: skip
    found = describe([], relations)
    assert (found.rule, found.confidence) == ("relation b", 0.6)
    assert found.text == "Implements b (0.60), c (0.20), d (0.20) and 1 more"
    found = describe(operations([[word] for word in WORDS]), relations)
    assert found.rule == "same word"
    assert "; implements b (0.60)" in found.text


def neighbourhood(n_words, close):
    """Unit vectors of which those of each list in `close` lie together."""
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(n_words, 64))
    for group in close:
        vectors[group] = vectors[group[0]] + 0.1 * generator.normal(size=(len(group), 64))
    return Neighbourhood(np.arange(n_words), vectors, generator.normal(size=(300, 64)))


def test_topics_are_found_by_embeddings():
    planted = operations([[noise] for noise in NOISE])
    sources = [operation.token_id for operation in planted]
    n_words = 3 * len(WORDS)
    assert describe(planted, neighbourhood=neighbourhood(n_words, [])).rule == UNCLEAR
    found = describe(planted, neighbourhood=neighbourhood(n_words, [sources[:9]]))
    assert (found.rule, found.confidence) == ("topic", 0.75)
    pairs = [[operation.token_id, operation.promoted[0][0]] for operation in planted[:9]]
    found = describe(planted, neighbourhood=neighbourhood(n_words, pairs))
    assert (found.rule, found.confidence) == ("topic of each", 0.75)
    assert "Paris → qzv" in found.text


def test_words_that_are_no_words_are_quoted():
    found = describe(operations([[",", noise] for noise in NOISE]))
    assert found.text == "Promotes “,” whatever the token"
