"""Each rule on pairs for which it holds, and on pairs that only look like it."""

import random

import pytest

from headatlas.analysis.descriptions.rules import PREFIXES, SUFFIXES, all_rules
from headatlas.relations import builtin_relations

HOLDS = {
    "same word": ("Paris Paris", "1999 1999"),
    "capitalised": ("paris Paris",),
    "uppercase": ("paris PARIS", "Paris PARIS"),
    "lowercase": ("Paris paris", "PARIS paris"),
    "other case": ("Paris paris", "pARIS Paris"),
    "+s": ("cat cats", "box boxes", "city cities"),
    "-s": ("cats cat", "boxes box", "cities city"),
    "+ed": ("walk walked", "bake baked", "stop stopped", "carry carried"),
    "-ed": ("walked walk", "baked bake"),
    "+ing": ("walk walking", "bake baking", "stop stopping"),
    "-ing": ("walking walk",),
    "+er": ("old older", "nice nicer", "big bigger", "happy happier"),
    "-er": ("older old",),
    "+est": ("old oldest",),
    "-est": ("oldest old",),
    "+ly": ("quick quickly", "happy happily"),
    "-ly": ("quickly quick",),
    "+ness": ("dark darkness", "happy happiness"),
    "+tion": ("inven invention",),
    "+ment": ("move movement",),
    "+ful": ("care careful", "beauty beautiful"),
    "+able": ("read readable", "use usable"),
    "+y": ("rain rainy", "ice icy"),
    "un-": ("happy unhappy",),
    "without un-": ("unhappy happy",),
    "re-": ("open reopen",),
    "next in order": ("2 3", "99 100", "seven eight", "Monday Tuesday", "March April", "II III"),
    "previous in order": ("3 2", "Tuesday Monday"),
    "english_to_french": ("house maison",),
    "agreement": ("customers them", "cats they", "cat it"),
    "closed bracket": ("( )", "f[ ]", "“ .”"),
    "comparison": ("older than", "more than"),
    "negation": ("happy unhappy", "could couldn", "can cannot"),
    "derived noun": ("decide decision", "strong strength", "act action", "explain explanation"),
    "derived adjective": ("danger dangerous", "fame famous", "hope hopeful"),
    "agent": ("teach teacher", "act actor"),
    "opposite": ("hot cold",),
    "synonym": ("big large",),
    "other form": ("slow slowed", "stop stopping", "decide decided", "nation national", "carried carry"),
    "first letter": ("Paris P", "paris P"),
    "last letter": ("Paris s",),
    "first letters": ("Paris Par", "Paris P"),
    "last letters": ("Paris ris",),
    "completion": ("Ital Italian",),
    "spelt alike": ("nation national", "nations nation", "Italian Italy"),
    "same first letter": ("Bol big",),
}
FAILS = {
    "same word": ("Paris paris", ", ,"),
    "capitalised": ("Paris Paris", "paris PARIS"),
    "uppercase": ("a A", "paris Paris"),
    "lowercase": ("paris paris",),
    "+s": ("i is", "cat cat", "cat dogs", "3d 3ds"),
    "+ed": ("b bed", "red red"),
    "+er": ("oth mother", "he her"),
    "un-": ("it unit", "der wonder"),
    "next in order": ("2 4", "3 2", "Sunday Monday", "² ³", "2 12345678901"),
    "english_to_french": ("house house", "maison house"),
    "agreement": ("customers it", "cat them", "quickly they", "strugg they"),
    "closed bracket": ("( (", "(a) )", "a )", "( ]"),
    "comparison": ("old than", "older then", "than older"),
    "negation": ("happy unhapp", "unhappy happy", "could cannot"),
    "derived noun": ("decide decided", "car action", "station station"),
    "derived adjective": ("danger danger", "hope hop", "cat dangerous"),
    "agent": ("teach teaches", "mother her"),
    "opposite": ("hot warm", "cold cold"),
    "synonym": ("big small",),
    "other form": ("slow slow", "car care", "nation nature", "under understand", "par party"),
    "first letter": ("Paris s", "P P", "Pa P"),
    "last letter": ("Paris P",),
    "first letters": ("Paris Pari",),
    "spelt alike": ("Paris Paris", "Paris Pasta", "1999 19991"),
    "same first letter": ("3 30", "( ((", "both both", "cat cats"),
}


def rule(name):
    (found,) = (rule for rule in all_rules() if rule.name == name)
    return found


@pytest.mark.parametrize("name", HOLDS)
def test_a_rule_holds(name):
    assert all(rule(name).agrees(*pair.split(" ")) for pair in HOLDS[name])


@pytest.mark.parametrize("name", FAILS)
def test_a_rule_does_not_hold_for_what_looks_like_it(name):
    assert not any(rule(name).agrees(*pair.split(" ")) for pair in FAILS[name])


def test_special_rules_are_apart():
    """For none of the pairs do two special rules hold that say different things of it."""
    special = [each for each in all_rules() if each.level == 0]
    for name, pairs in HOLDS.items():
        if rule(name).level == 0:
            for pair in pairs:
                holding = {each.name for each in special if each.agrees(*pair.split(" "))}
                assert holding == {name}, pair


def test_names_are_all_different_and_every_translation_has_a_rule():
    names = [each.name for each in all_rules()]
    assert len(set(names)) == len(names)
    assert {each.name for each in builtin_relations() if each.category == "Translation"} <= set(names)
    assert rule("french_to_english").phrase == "French words in English"


def test_what_a_rule_needs_holds_wherever_it_agrees():
    """Tried on pairs made of pieces of words and affixes, in different cases, also of letters that case changes."""
    generator = random.Random(0)
    words = {word for pairs in [*HOLDS.values(), *FAILS.values()] for pair in pairs for word in pair.split(" ")}
    stems = [*sorted(words), "happy", "try", "make", "tie", "Ende", "ß", "ﬁre", "İ", "٣", ""]
    agreed = set()
    for _ in range(8_000):
        stem = generator.choice(stems)
        shorter = stem[: len(stem) - generator.randrange(2)]
        longer = generator.choice(("", "i", "ie", "e", stem[-1:])) + generator.choice(SUFFIXES)
        forms = (stem, shorter + longer, generator.choice(PREFIXES) + stem, stem[: generator.randrange(1, 4)])
        pair = [generator.choice((str, str.upper, str.capitalize))(generator.choice(forms)) for _ in range(2)]
        for rule in all_rules():
            if rule.agrees(*pair):
                agreed.add(rule.needs)
                assert rule.needs(*pair), (rule.name, *pair)
    assert len(agreed) >= 6
