"""Rules for how one word follows from another, each a small function of two words that returns whether it holds.

Words are given without a leading space. A rule knows only the two words; it knows no heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from headatlas.relations import builtin_relations

Agrees = Callable[[str, str], bool]
"""Whether something holds for a source and a mapped word, in this order."""

SHORTEST_STEM = 3
"""Fewest letters of a word for which a rule about affixes is more than chance."""

ORDERS = (
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
     "december"),
    ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"),
)  # fmt: skip

SUFFIXES = ("s", "ed", "ing", "er", "est", "ly", "ness", "tion", "ment", "ful", "able", "ism", "ist", "al", "y")
PREFIXES = ("un", "re", "in", "dis", "non", "pre", "over", "sub")


@dataclass(frozen=True)
class Rule:
    """A rule for how mapped words follow from their sources.

    Args:
        name: its name in the table `descriptions`.
        phrase: the object of "promotes" or "suppresses" in a description.
        agrees: whether it holds for a source and a mapped word.
        needs: what holds wherever `agrees` does; it is quick, and shared by several rules, so that most pairs of words
            are tried once for all of them.
        general: it includes more special rules, and is used only if none of them holds.
    """

    name: str
    phrase: str
    agrees: Agrees
    needs: Agrees
    general: bool = False


def has_same_letters(source: str, word: str) -> bool:
    return source.casefold() == word.casefold()


def begins_like_source(source: str, word: str) -> bool:
    """The word begins with the source, except for the last letter of the source."""
    source = source.casefold()
    return len(source) >= SHORTEST_STEM and word.casefold().startswith(source[:-1])


def begins_like_word(source: str, word: str) -> bool:
    return begins_like_source(word, source)


def ends_with_source(source: str, word: str) -> bool:
    return word.casefold().endswith(source.casefold())


def ends_with_word(source: str, word: str) -> bool:
    return ends_with_source(word, source)


def is_short(source: str, word: str) -> bool:
    return len(word.casefold()) <= 3


def is_anything(source: str, word: str) -> bool:
    return True


def is_same_word(source: str, word: str) -> bool:
    return source == word and any(map(str.isalnum, word))


def is_other_case(source: str, word: str) -> bool:
    """The same letters in another case."""
    return source != word and source.casefold() == word.casefold()


def is_capitalised(source: str, word: str) -> bool:
    return is_other_case(source, word) and source.islower() and word == source.capitalize()


def is_upper(source: str, word: str) -> bool:
    return is_other_case(source, word) and len(word) > 1 and word.isupper()


def is_lower(source: str, word: str) -> bool:
    return is_other_case(source, word) and word.islower()


def with_suffix(suffix: str) -> Agrees:
    """The source with this ending, which may replace an `e` or change a `y` at the source's end."""

    def agrees(source: str, word: str) -> bool:
        source, word = source.casefold(), word.casefold()
        if len(source) < SHORTEST_STEM or not source.isalpha() or not word.endswith(suffix):
            return False
        forms = {source + suffix}
        if suffix[0] in "eiay" and source.endswith("e"):
            forms.add(source[:-1] + suffix)
        if suffix == "s":
            forms |= {source + "es"}
        if source.endswith("y"):
            forms |= {source[:-1] + "i" + suffix, source[:-1] + "ie" + suffix}
        if suffix in ("ed", "ing", "er", "est"):
            forms.add(source + source[-1] + suffix)
        return word in forms

    return agrees


def without_suffix(suffix: str) -> Agrees:
    added = with_suffix(suffix)
    return lambda source, word: added(word, source)


def with_prefix(prefix: str) -> Agrees:
    def agrees(source: str, word: str) -> bool:
        source, word = source.casefold(), word.casefold()
        return len(source) >= SHORTEST_STEM and source.isalpha() and word == prefix + source

    return agrees


def without_prefix(prefix: str) -> Agrees:
    added = with_prefix(prefix)
    return lambda source, word: added(word, source)


def is_first_letters(source: str, word: str) -> bool:
    """The first one to three letters of a longer word."""
    source, word = source.casefold(), word.casefold()
    return word.isalpha() and len(word) <= 3 and len(source) > len(word) + 1 and source.startswith(word)


def is_first_letter(source: str, word: str) -> bool:
    return len(word) == 1 and is_first_letters(source, word)


def is_last_letters(source: str, word: str) -> bool:
    """The last one to three letters of a longer word."""
    source, word = source.casefold(), word.casefold()
    return word.isalpha() and len(word) <= 3 and len(source) > len(word) + 1 and source.endswith(word)


def is_last_letter(source: str, word: str) -> bool:
    return len(word) == 1 and is_last_letters(source, word)


def has_same_first_letter(source: str, word: str) -> bool:
    """Begins with the same letter, in any case."""
    return source[:1].isalpha() and source[:1].casefold() == word[:1].casefold()


def is_spelt_alike(source: str, word: str) -> bool:
    """Another word with the same first four letters, or with all letters of a shorter word."""
    source, word = source.casefold(), word.casefold()
    shared = min(4, len(source), len(word))
    return source != word and shared >= SHORTEST_STEM and source[:shared].isalpha() and source[:shared] == word[:shared]


def is_longer(source: str, word: str) -> bool:
    """A longer word that begins with the source."""
    source, word = source.casefold(), word.casefold()
    return len(source) >= 2 and source.isalpha() and len(word) > len(source) and word.startswith(source)


def in_order(step: int) -> Agrees:
    """The item `step` places later in a sequence of numbers, number words, days or months."""

    def agrees(source: str, word: str) -> bool:
        source, word = source.casefold(), word.casefold()
        if source.isascii() and source.isdigit() and word.isascii() and word.isdigit() and len(source) < 10:
            return len(word) < 10 and int(word) == int(source) + step
        return any(
            source in order and word in order and order.index(word) == order.index(source) + step for order in ORDERS
        )

    return agrees


def is_in_order(source: str, word: str) -> bool:
    """Both are numbers, or both are in one of the sequences."""
    source, word = source.casefold(), word.casefold()
    if source.isdigit() and word.isdigit():
        return True
    return any(source in order and word in order for order in ORDERS)


def is_translation(name: str) -> Agrees:
    """A pair of the built-in relation of this name, in any case."""

    def agrees(source: str, word: str) -> bool:
        return (source.casefold(), word.casefold()) in _translations()[name]

    return agrees


def is_any_translation(source: str, word: str) -> bool:
    return (source.casefold(), word.casefold()) in _any_translation()


@cache
def _any_translation() -> frozenset[tuple[str, str]]:
    return frozenset().union(*_translations().values())


@cache
def _translations() -> dict[str, frozenset[tuple[str, str]]]:
    return {
        relation.name: frozenset(
            (source.casefold(), target.casefold())
            for source, target in relation.pairs
            if source.casefold() != target.casefold()
        )
        for relation in builtin_relations()
        if relation.category == "Translation"
    }


@cache
def all_rules() -> Sequence[Rule]:
    """All rules; if two hold equally often, a description uses the earlier one."""
    affixes = [
        *(Rule(f"+{end}", f"the word with -{end}", with_suffix(end), begins_like_source) for end in SUFFIXES),
        *(Rule(f"-{end}", f"the word without its -{end}", without_suffix(end), begins_like_word) for end in SUFFIXES),
        *(Rule(f"{start}-", f"the word with {start}-", with_prefix(start), ends_with_source) for start in PREFIXES),
        *(
            Rule(f"without {start}-", f"the word without its {start}-", without_prefix(start), ends_with_word)
            for start in PREFIXES
        ),
    ]
    translations = [
        Rule(name, "{} in {}".format(*_languages(name)), is_translation(name), is_any_translation)
        for name in sorted(_translations())
    ]
    return (
        Rule("same word", "the same word again", is_same_word, has_same_letters),
        Rule("capitalised", "the word capitalised", is_capitalised, has_same_letters),
        Rule("uppercase", "the word in capitals", is_upper, has_same_letters),
        Rule("lowercase", "the word in small letters", is_lower, has_same_letters),
        *affixes,
        Rule("next in order", "the next in order, such as 3 for 2", in_order(1), is_in_order),
        Rule("previous in order", "the one before in order, such as 2 for 3", in_order(-1), is_in_order),
        *translations,
        Rule("first letter", "the word's first letter", is_first_letter, is_short),
        Rule("last letter", "the word's last letter", is_last_letter, is_short),
        Rule("first letters", "the word's first letters", is_first_letters, is_short, general=True),
        Rule("last letters", "the word's last letters", is_last_letters, is_short, general=True),
        Rule("other case", "the word in another case", is_other_case, has_same_letters, general=True),
        Rule("completion", "words that begin with it", is_longer, is_anything, general=True),
        Rule("spelt alike", "other words that begin alike", is_spelt_alike, is_anything, general=True),
        Rule("same first letter", "words with the same first letter", has_same_first_letter, is_anything, general=True),
    )


def _languages(name: str) -> tuple[str, str]:
    first, _, second = name.partition("_to_")
    return f"{first.capitalize()} words", second.capitalize()
