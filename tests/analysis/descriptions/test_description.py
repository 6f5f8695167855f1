"""Descriptions of planted operations: each type of finding appears if it is there, and nothing if there is none."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from headatlas.analysis.descriptions.description import NOTHING, UNCLEAR, KnownRelation, describe
from headatlas.analysis.descriptions.finding import Operation, at_least
from headatlas.analysis.descriptions.neighbourhood import Neighbourhood
from headatlas.analysis.descriptions.rules import all_rules
from headatlas.analysis.descriptions.usual import Usual
from headatlas.analysis.descriptions.writes import _Candidates, _rule

WORDS = ["Paris", "apple", "stone", "river", "cloud", "music", "winter", "garden", "market", "bottle", "yellow", "frog"]
CONTENT = [
    "coffee",
    "ocean",
    "snow",
    "museum",
    "glass",
    "motor",
    "moon",
    "guitar",
    "kitchen",
    "forest",
    "letter",
    "turtle",
]
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
    assert (found.text, found.rule, found.confidence) == (NOTHING, UNCLEAR, 0.0)
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
    assert found.text.startswith("Writes ") and f"{made('Paris')}" in found.text


def test_suppression_has_rules_of_its_own():
    found = describe(operations([[noise] for noise in NOISE], [[word] for word in WORDS]))
    assert found.rule == "same word (suppressed)"
    assert found.text.startswith("Suppresses the same word again (Paris, apple")


def test_numbers_in_order_and_translations():
    numbers = [str(number) for number in range(20, 32)]
    found = describe(operations([[str(int(number) + 1)] for number in numbers], sources=numbers))
    assert found.rule == "next in order"
    pairs = [("house", "maison"), ("water", "eau"), ("night", "nuit"), ("dog", "chien"), ("cat", "chat")]
    found = describe(operations([[pair[1]] for pair in pairs], [["x"]] * 5, sources=[pair[0] for pair in pairs]))
    assert (found.rule, found.text[:31]) == ("english_to_french", "Writes English words in French ")


def test_chance_is_the_mean_over_all_re_pairings():
    copied = operations([[word] for word in WORDS])
    found = _rule(all_rules()[0], _Candidates(copied, "promoted"), "promoted")
    assert (found.share, found.chance) == (1.0, 0.0)
    alike = operations([["Paris"]] * 12, sources=["Paris"] * 4 + WORDS[4:])
    found = _rule(all_rules()[0], _Candidates(alike, "promoted"), "promoted")
    assert (found.share, found.chance) == (4 / 12, 4 / 12)


def test_rules_that_shuffled_mappings_also_satisfy_are_not_reported():
    """All words begin with the same letter, so that it says nothing that mapped words do too."""
    sources = [f"b{noise}" for noise in NOISE]
    promoted = [[f"b{noise[::-1]}a"] for noise in NOISE]
    assert describe(operations(promoted, sources=sources)).rule == UNCLEAR


def test_the_same_words_whatever_it_reads():
    always = operations([["their", noise] for noise in NOISE])
    found = describe(always)
    assert (found.rule, found.text) == ("constant", "Writes their whatever it reads")
    every = Usual(
        words={"promoted": {"their": 0.9}},
        written={"promoted": {"pronouns": 0.9, "function words": 0.9}},
        met={"promoted": {"pronouns": 0.9}},
    )
    assert describe(always, usual=every).rule == UNCLEAR  # every head does so
    most = operations([["their", noise] for noise in NOISE[:7]] + [[noise] for noise in NOISE[7:]])
    assert describe(most).text == "Writes their for most tokens"
    some = operations([["their", noise] for noise in NOISE[:5]] + [[noise] for noise in NOISE[5:]])
    assert describe(some).text == "Often writes their"
    one = operations([["stone", noise] for noise in NOISE[:5]] + [[noise] for noise in NOISE[5:]])
    assert describe(one).rule == UNCLEAR


def test_pieces_of_words_are_called_so():
    found = describe(operations([["strugg", noise] for noise in NOISE]))
    assert found.text == "Writes the same piece of words or code (strugg) whatever it reads"
    found = describe(operations([["strugg", "their", noise] for noise in NOISE]))
    assert found.text == "Writes their whatever it reads"  # what can be read is said alone
    # That a piece is never written says nothing.
    assert describe(operations([[noise] for noise in NOISE], [["strugg"]] * 12)).rule == UNCLEAR


def test_text_in_other_scripts_is_called_so():
    assert describe(operations([["өнья"]] * 12)).text == (
        "Writes the same piece of text in Cyrillic script (өнья) whatever it reads"
    )
    assert describe(operations([["өнья", "ิก"]] * 12, [["ocsát", "каждым"]] * 12)).text == (
        "Writes in one fixed direction whatever it reads: towards pieces of text in several scripts (өнья, “ิก”), away "
        "from pieces of words or code (ocsát, каждым)"
    )
    mixed = [[noise, noise[::-1]] for noise in NOISE]
    assert describe(operations(mixed, [["ورٹی"]] * 12)).text == NOTHING


def test_a_fixed_direction_has_two_ends():
    up, down = ["strugg", "affili"], ["and", ","]
    found = describe(operations([up] * 12, [down] * 12))
    assert found.rule == "fixed direction" and found.confidence == 1.0
    assert found.text == (
        "Writes in one fixed direction whatever it reads: towards pieces of words or code (affili, strugg), away from "
        "“,”, and"
    )
    both = describe(operations([up] * 8 + [down] * 4, [down] * 8 + [up] * 4))
    assert "forwards or backwards, whatever it reads: between pieces of words or code" in both.text
    # Words that are written for a few tokens make no direction.
    mixed = operations([up] * 4 + [[noise] for noise in NOISE[4:]], [down] * 4 + [[noise[::-1]] for noise in NOISE[4:]])
    assert describe(mixed).rule != "fixed direction"


def test_a_direction_that_is_written_backwards_for_half_of_the_tokens():
    """Each word is promoted as often as it is suppressed, so that only what goes together shows the two ends."""
    up, down = ["strugg", "affili"], ["and", ","]
    half = operations([up, down] * 6, [down, up] * 6)
    found = describe(half)
    assert (found.rule, found.confidence) == ("fixed direction", 1.0)
    assert found.text == (
        "Writes in one fixed direction, forwards or backwards, whatever it reads: between pieces of words or code "
        "(affili, strugg) and “,”, and"
    )
    # The same words as often on each side, of which none goes together with others: no direction.
    sides = [(["strugg"], ["qzv"]), (["qzv"], ["strugg"]), (["affili"], ["xjk"]), (["xjk"], ["affili"])]
    loose = operations([side[0] for side in sides] * 3, [side[1] for side in sides] * 3)
    assert describe(loose).rule != "fixed direction"


def test_case_is_kept():
    found = describe(operations([["I", "My", noise] for noise in NOISE]))
    assert found.text == "Writes I, My whatever it reads"


MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
USUAL = Usual(read={"months": 0.01, "capitalised words": 0.2, "pronouns": 0.02})


def test_classes_of_what_a_head_responds_to():
    found = describe(operations([[noise] for noise in NOISE], sources=[*MONTHS, "stone", "river"]), usual=USUAL)
    assert (found.rule, found.confidence) == ("responds to months", round(10 / 12, 4))
    assert found.text == (
        "Responds most to months (January, February, March, April); nothing in common was found in what it writes"
    )
    mixed = [*MONTHS[:6], "them", "their", "our", "she", "stone", "river"]
    found = describe(operations([[noise] for noise in NOISE], sources=mixed), usual=USUAL)
    assert found.text.startswith("Responds most to months (January, February, March, April) and pronouns (them, their,")


def test_a_class_is_compared_with_the_vocabulary():
    planted = operations([[noise] for noise in NOISE], sources=[*MONTHS, "stone", "river"])
    everywhere = Usual(read={"months": 0.8, "capitalised words": 0.8})
    assert describe(planted, usual=everywhere).rule == UNCLEAR
    few = operations([[noise] for noise in NOISE], sources=[*MONTHS[:2], *WORDS[2:]])
    assert describe(few, usual=USUAL).rule == UNCLEAR
    assert describe(planted).rule == UNCLEAR  # without a vocabulary to compare with, classes are not looked for


FEW = Usual(
    read={
        **dict.fromkeys(["first names", "colours", "directions", "months"], 0.005),
        **{"capitalised words": 0.2, "function words": 0.06, "connectives": 0.006, "prepositions": 0.02},
    }
)
NAMED = ["Robert", "George", "Thomas", "red", "green", "white", "north", "south", "western"]


def test_several_classes_that_together_are_enough():
    """None of three classes has 0.3 of the tokens; together they have 0.75."""
    found = describe(operations([[noise] for noise in NOISE], sources=[*NAMED, "stone", "river", "cloud"]), usual=FEW)
    assert (found.rule, found.confidence) == ("responds to colours", 0.75)
    assert found.text == (
        "Responds most to colours (red, green, white), directions (north, south, western) and first names (Robert, "
        "George, Thomas); nothing in common was found in what it writes"
    )
    one = operations([[noise] for noise in NOISE], sources=[*NAMED[:3], *WORDS[1:10]])
    assert describe(one, usual=FEW).rule == UNCLEAR
    usual = Usual(read=dict.fromkeys(["first names", "colours", "directions"], 0.05))
    chance = operations([[noise] for noise in NOISE], sources=[*NAMED, "stone", "river", "cloud"])
    assert describe(chance, usual=usual).rule == UNCLEAR  # three of twelve are no more than chance


def test_classes_after_a_wide_one():
    sources = ["at", "by", "into", "from", "under", "over", "red", "green", "white", "stone", "river", "cloud"]
    found = describe(operations([[noise] for noise in NOISE], sources=sources), usual=FEW)
    assert found.text.startswith("Responds most to prepositions (at, by, into, from) and colours (red, green, white);")
    # Three of 18 are too few for a second class of their own.
    wide = ["at", "them", "the", "because", "would", "what", "near", "too", "our"]
    low = [["xqv"]] * 18
    with_colours = operations(
        [[noise] for noise in (NOISE * 2)[:18]], low, [*wide, "red", "green", "white", *WORDS[:6]]
    )
    assert describe(with_colours, usual=FEW).text.startswith(
        "Responds most to function words (at, them, the, because) and colours (red, green, white);"
    )
    two = operations([[noise] for noise in (NOISE * 2)[:18]], low, [*wide, "red", "green", *WORDS[:7]])
    assert describe(two, usual=FEW).text.startswith("Responds most to function words (at, them, the, because); nothing")


def test_a_small_excess_is_none_however_many_tokens_show_it():
    sources = [*map(str, range(60)), *(f"{first}{second}zqx" for first in "bcdfghjklmnprs" for second in "bcdfghjklm")]
    planted = operations([[noise] for noise in (NOISE * 17)[:200]], [["xqv"]] * 200, sources)
    usual = {"pieces of words": 0.6, "names and signs of code": 0.25}
    assert describe(planted, usual=Usual(read={"numbers": 0.15, **usual})).rule == UNCLEAR
    assert describe(planted, usual=Usual(read={"numbers": 0.05, **usual})).rule == "responds to numbers"


CONNECTIVES = ["however", "moreover", "furthermore", "therefore", "thus", "hence", "additionally"]
OTHERS = ["at", "them", "the", "because", "would"]
PLAIN = [*WORDS, "coffee", "ocean", "museum", "kitchen", "forest", "turtle"]


@pytest.mark.parametrize(
    ("sources", "connectives", "named"),
    [
        (
            [*CONNECTIVES, *OTHERS, *PLAIN],
            0.006,
            ", above all connectives (however, moreover, furthermore, therefore);",
        ),
        ([*CONNECTIVES, *OTHERS, *PLAIN], 0.02, " (however, moreover, furthermore, therefore);"),  # as all tokens are
        ([*CONNECTIVES[:4], *OTHERS, "what", "near", "too", *PLAIN], 0.0006, " (however, moreover, furthermore, there"),
    ],
)
def test_a_closed_class_that_most_function_words_are_of(sources, connectives, named):
    """Connectives are fewer than 0.3 of the tokens, but more than half of the function words."""
    usual = Usual(read={"function words": 0.06, "connectives": connectives})
    low = [["xqv"]] * len(sources)
    found = describe(operations([[noise] for noise in (NOISE * 3)[: len(sources)]], low, sources), usual=usual)
    assert found.text.startswith(f"Responds most to function words{named}")


def test_a_wide_class_has_the_topic_of_its_words():
    adjectives = ["big", "long", "wide", "deep", "clear", "dark"]
    planted = operations([[noise] for noise in NOISE], sources=[*adjectives, *CONTENT[:6]])
    ids = [operation.token_id for operation in planted]
    usual = Usual(read={"adjectives": 0.05})
    alone = "Responds most to adjectives (big, long, wide, deep); nothing"
    assert describe(planted, usual=usual, neighbourhood=neighbourhood(36, [])).text.startswith(alone)
    found = describe(planted, usual=usual, neighbourhood=neighbourhood(36, [ids[3:8]]))
    assert found.text.startswith("Responds most to adjectives and words such as ")
    assert found.confidence == 0.5  # of the class alone


def test_other_forms_count_for_a_topic():
    """Four words of fifteen lie close together; with other forms of them, there are eight."""
    topic = ["reason", "cause", "advantage", "purpose"]

    def described(others):
        sources = [*topic, *others, *CONTENT[: 11 - len(others)]]
        planted = operations([[noise] for noise in [*NOISE, *NOISE[:3]]], [["xqv"]] * 15, sources)
        ids = [operation.token_id for operation in planted[:4]]
        return describe(planted, neighbourhood=neighbourhood(45, [ids]))

    assert described([]).rule == UNCLEAR
    found = described(["reasons", "causes", "advantages", "purposes"])
    assert (found.rule, found.confidence) == ("topic", round(8 / 15, 4))
    # Words that only begin alike are no other forms.
    assert described(["realm", "cauldron", "adverb", "purple"]).rule == UNCLEAR


def test_classes_of_what_a_head_writes():
    prepositions = ["on", "into", "from", "with", "about", "over", "under", "between", "through", "of", "to", "at"]
    planted = operations([[word, noise] for word, noise in zip(prepositions, NOISE, strict=True)])
    found = describe(planted, usual=Usual())
    assert found.rule == "writes prepositions"
    assert found.text.startswith("Writes prepositions (Paris → on, apple → into, ")
    everywhere = Usual(
        written={"promoted": {"prepositions": 0.9, "function words": 0.9}}, met={"promoted": {"prepositions": 0.9}}
    )
    assert describe(planted, usual=everywhere).rule == UNCLEAR
    cyrillic = operations(
        [[word] for word in ["код", "дом", "лес", "мир", "год", "час", "мост", "нос", "кот", "сон", "рот", "пол"]]
    )
    assert describe(cyrillic, usual=Usual()).rule == "writes Cyrillic letters"
    signs = operations([[sign, noise] for sign, noise in zip('”“"’' * 3, NOISE, strict=True)])
    assert describe(signs, usual=Usual()).text.startswith("Writes quotation marks (“””")


def test_a_listed_class_of_which_one_word_is_enough():
    """One comparative among four other words, for 5 of 12 tokens."""
    words = ["better", "less", "easier", "later", "more"]
    others = [[noise, noise[::-1], noise + "q", noise + "x"] for noise in NOISE]
    planted = operations([[*other, word] for other, word in zip(others, words, strict=False)] + others[5:])
    found = describe(planted, usual=Usual())
    assert (found.rule, found.confidence) == ("writes comparatives", round(5 / 12, 4))
    assert found.text == "Often writes comparatives (Paris → better, apple → less, stone → easier, river → later)"
    everywhere = Usual(met={"promoted": {"comparatives": 0.2}})
    assert describe(planted, usual=everywhere).rule == UNCLEAR
    # An ending shows no class: one verb in -ing may be an accident.
    gerunds = ["making", "leaving", "growing", "reducing", "keeping"]
    accident = operations([[*other, word] for other, word in zip(others, gerunds, strict=False)] + others[5:])
    assert describe(accident, usual=Usual()).rule == UNCLEAR


def test_a_piece_that_is_spelt_like_a_preposition_is_none():
    pieces = ["at", "on", "in", "to", "of", "by"]
    others = [[noise, noise[::-1], noise + "q", noise + "x"] for noise in NOISE]
    planted = operations([[*other, word] for other, word in zip(others, pieces, strict=False)] + others[6:])
    assert describe(planted, usual=Usual()).rule == "writes prepositions"
    inside = [replace(each, promoted=tuple((token, text.strip()) for token, text in each.promoted)) for each in planted]
    assert describe(inside, usual=Usual()).rule == UNCLEAR


def test_responding_and_writing_are_one_sentence():
    comparatives = [
        "older",
        "younger",
        "longer",
        "shorter",
        "better",
        "worse",
        "stronger",
        "weaker",
        "more",
        "less",
        "river",
        "stone",
    ]
    found = describe(operations([["than", noise] for noise in NOISE], sources=comparatives), usual=Usual())
    assert found.text == (
        "Responds most to comparatives (older, younger, longer, shorter); writes than whatever it reads"
    )


def test_a_mixture_is_told_by_the_pairs():
    """Plural nouns get `they`, singular ones `it`, so that re-pairing shows the agreement."""
    sources = ["cats", "dogs", "tables", "books", "apples", "houses", "cat", "dog", "table", "book", "apple", "house"]
    planted = operations([["they"]] * 6 + [["it"]] * 6, sources=sources)
    found = describe(planted)
    assert found.rule == "agreement" and "cats → they" in found.text
    wrong = operations([["it"]] * 6 + [["they"]] * 6, sources=sources)
    assert describe(wrong).rule != "agreement"


def test_usual_is_what_all_heads_do():
    heads = [operations([["their"]] * 12), operations([[noise] for noise in NOISE])]
    usual = Usual.of(heads)
    assert usual.words["promoted"]["their"] == 0.5 and usual.written["promoted"]["pronouns"] == 0.5
    assert usual.read == Usual.of(heads[:1], [f" {word}" for word in WORDS]).read  # each token counts once
    assert Usual.of(heads, [" them", " the"]).read["pronouns"] == 0.5


def test_probability_by_chance():
    assert at_least(0, 3, 0.2) == pytest.approx(1) and at_least(3, 3, 0.5) == pytest.approx(0.125)


def test_known_relations_come_with_their_scores():
    relations = [KnownRelation(name, score, chance) for name, score, chance in
                 (("a", 0.9, 0.8), ("b", 0.6, 0.1), ("c", 0.2, 0.0), ("d", 0.2, 0.05))]  # fmt: skip
    found = describe([], relations)
    assert (found.rule, found.confidence) == ("relation b", 0.6)
    assert found.text == "Maps b (0.60), c (0.20), d (0.20) and 1 more"
    found = describe(operations([[word] for word in WORDS]), relations)
    assert found.rule == "same word"
    assert "; maps b (0.60)" in found.text


def neighbourhood(n_words, close):
    """Unit vectors of which those of each list in `close` lie together."""
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(n_words, 64))
    for group in close:
        vectors[group] = vectors[group[0]] + 0.1 * generator.normal(size=(len(group), 64))
    return Neighbourhood(np.arange(n_words), vectors, generator.normal(size=(300, 64)))


def test_topics_are_found_by_embeddings():
    planted = operations([[noise] for noise in NOISE], sources=CONTENT)
    sources = [operation.token_id for operation in planted]
    n_words = 3 * len(CONTENT)
    assert describe(planted, neighbourhood=neighbourhood(n_words, [])).rule == UNCLEAR
    found = describe(planted, neighbourhood=neighbourhood(n_words, [sources[:9]]))
    assert (found.rule, found.confidence) == ("topic", 0.75)
    assert found.text.startswith("Responds most to words such as coffee, ")
    two = describe(planted, neighbourhood=neighbourhood(n_words, [sources[:5], sources[5:10]]))
    assert " and " in two.text and two.confidence == round(10 / 12, 4)


def test_pieces_and_words_that_begin_alike_are_no_topic():
    pieces = operations([[noise] for noise in NOISE], sources=["strugg", "exhib", "affili", *CONTENT[3:]])
    ids = [operation.token_id for operation in pieces]
    assert describe(pieces, neighbourhood=neighbourhood(36, [ids[:3]])).rule == UNCLEAR
    alike = operations([[noise] for noise in NOISE], sources=["music", "musical", "musician", "musics", *CONTENT[4:]])
    ids = [operation.token_id for operation in alike]
    assert describe(alike, neighbourhood=neighbourhood(36, [ids[:4]])).rule == UNCLEAR


def test_related_words_are_close_to_their_own_token():
    related = [
        "drink",
        "island",
        "winter",
        "painting",
        "window",
        "engine",
        "planet",
        "violin",
        "bottle",
        "garden",
        "paper",
        "frog",
    ]
    planted = operations([[word] for word in related], sources=CONTENT)
    pairs = [[each.token_id, each.promoted[0][0]] for each in planted[:9]]
    found = describe(planted, neighbourhood=neighbourhood(36, pairs))
    assert (found.rule, found.confidence) == ("related words", 0.75)
    assert "coffee → drink" in found.text
    swapped = [[each.token_id, other.promoted[0][0]] for each, other in pairwise(planted)]
    assert describe(planted, neighbourhood=neighbourhood(36, swapped)).rule == UNCLEAR


def test_words_that_are_no_words_are_quoted():
    found = describe(operations([[",", noise] for noise in NOISE]))
    assert found.text == "Writes “,” whatever it reads"


def test_relations_in_words():
    found = describe([], [KnownRelation("english_to_french", 0.5, 0.0)])
    assert found.text.startswith("Maps English → French (0.50)")
