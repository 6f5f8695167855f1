"""Classes of words: each on words that it has, and on words that only look like it."""

import pytest

from headatlas.analysis.descriptions.finding import quoted
from headatlas.analysis.descriptions.words import (
    all_classes,
    classes_of,
    is_content,
    is_piece,
    is_readable,
    unread_kind,
)

HAS = {
    "pronouns": " their Our I",
    "question words": " which Why",
    "determiners": " the every",
    "prepositions": " behind On",
    "conjunctions": " whereas and",
    "connectives": " Furthermore instead",
    "auxiliary verbs": " would wasn",
    "adverbs of degree and time": " almost never",
    "negations": " nor without",
    "comparatives": " older worse More",
    "superlatives": " oldest best",
    "numbers": " seven 12",
    "months": " May Sept",
    "first names": " David Mary",
    "places": " France Texas Aberdeen",
    "nationalities": " German",
    "colours": " red White",
    "organisations": " University hospitals agencies",
    "words for people": " students teacher women",
    "verbs in -ing": " producing stopping",
    "verbs in the past": " obtained brought",
    "verbs in the third person": " allows indicates",
    "adverbs in -ly": " quickly",
    "plural nouns": " cats reasons",
    "animals": " dog",
    "British spellings": " organised neighbouring colour",
    "American spellings": " color",
    "names and signs of code": ' MetaInfo elif ]); "]:',
    "quotation marks": ' ” ."',
    "closing brackets": " ) ).",
    "ends of sentences": " . !' ?",
    "single letters": " P",
    "words in capitals": " NASA",
    "capitalised words": " Paris",
    "pieces of words": " strugg exhib Scient",
    "Cyrillic letters": " код",
    "Chinese letters": " 码",
}
LACKS = {
    "pronouns": " there hen",
    "comparatives": " mother other",
    "months": " mayor",
    "first names": " mary table",
    "verbs in -ing": " something king",
    "verbs in the past": " hundred need",
    "verbs in the third person": " cats this",
    "adverbs in -ly": " family only",
    "plural nouns": " this always news class allows",
    "British spellings": " promise hour raised four",
    "names and signs of code": " Paris ). “ and",
    "quotation marks": " \"]: ) $',",
    "ends of sentences": " , ).|",
    "pieces of words": " struggle Paris NASA the organised",
    "Cyrillic letters": " code Greek",
}


@pytest.mark.parametrize("name", HAS)
def test_a_class_has_its_words(name):
    assert [word for word in HAS[name].split() if name not in classes_of(f" {word}")] == []


@pytest.mark.parametrize("name", LACKS)
def test_a_class_lacks_what_looks_like_it(name):
    assert [word for word in LACKS[name].split() if name in classes_of(f" {word}")] == []


def test_the_space_in_front_tells_a_word_from_the_end_of_one():
    assert is_piece("requently") and is_piece("ients") and not is_piece(" themselves")
    assert is_readable(" then") and not is_readable("thens") and is_readable(" students")
    assert is_readable(",") and not is_readable("`):") and not is_readable(" strugg")


@pytest.mark.parametrize("token", [" été", " Été", " jour", "的", "é", "“„", "…", "➜➜", "१२"])
def test_known_words_and_signs_of_other_languages_are_readable(token):
    assert is_readable(token)


@pytest.mark.parametrize("token", [" код", "ورٹی", "ิก", "目的是", "ocsát", " ocsát", "нкү", "–ocs", "ाे"])
def test_other_tokens_of_other_languages_are_not(token):
    assert not is_readable(token)


def test_what_cannot_be_read_is_called_by_its_script():
    assert unread_kind(["өнья", "нкү"]) == "text in Cyrillic script"
    assert unread_kind(["өнья", "ิก"]) == "text in several scripts"
    assert unread_kind(["өнья", "ocsát"]) == unread_kind(["strugg"]) == "words or code"


def test_white_space_is_a_class_and_is_called_by_its_name():
    assert "white space and blanks" in classes_of("\n\n___") and "white space and blanks" not in classes_of("a")
    assert [quoted(sign) for sign in ("\n\n", "\t", "\xa0", "  ", "a", ",", "\u200b")] == [
        "line break", "tab", "no-break space", "space", "a", "“,”", "“\\u200b”",
    ]  # fmt: skip


def test_what_can_have_a_topic():
    assert is_content(" coffee") and is_content(" museum")
    assert not any(map(is_content, (" the", " May", " seven", " strugg", " France", ",")))


def test_colours_are_one_class():
    """Two built-in relations have colours, of which one calls them `color`."""
    assert "colors" not in all_classes() and "colours" in all_classes()
