"""Rules for how one word follows from another, each a small function of two words that returns whether it holds.

Words are given without a leading space. A rule knows only the two words; it knows no heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from headatlas.analysis.descriptions.finding import MIN_SHARE
from headatlas.analysis.descriptions.words import AUXILIARIES, is_plural, is_singular
from headatlas.analysis.descriptions.words import all_classes as word_classes
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

NOUN_ENDS = ("ion", "tion", "sion", "ment", "ness", "ity", "ty", "ance", "ence", "ancy", "ency", "al", "ure", "th", "y")
ADJECTIVE_ENDS = ("ous", "ful", "ic", "ical", "ive", "able", "ible", "al", "ial", "less", "ish", "ary", "y")
AGENT_ENDS = ("er", "or", "r", "ist", "ant", "ent", "ian")
FORM_ENDS = ("", "e", "s", "es", "ed", "d", "ing", "er", "r", "est", "st", "ly", "y", "ies", "ied", "ier", "ily",
             *NOUN_ENDS, *ADJECTIVE_ENDS, "ally", "ity", "ize", "ise", "ized", "ised", "ation", "ations", "ions", "ers",
             "ings", "en", "ened", "ening", "ens", "n")  # fmt: skip
"""Ends of derived nouns, adjectives and agents; what follows the common beginning of two forms of a word."""

BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">", "“": "”", "‘": "’", "«": "»"}
OF_MANY = frozenset(["they", "them", "their", "theirs", "themselves", "these", "those", "ones", "are", "were", "have"])
OF_ONE = frozenset(["it", "its", "itself", "this", "that", "one", "is", "was", "has"])
"""Words that agree with a plural noun, and with a singular one."""

SUFFIXES = ("s", "ed", "ing", "er", "est", "ly", "ness", "tion", "ment", "ful", "able", "ism", "ist", "al", "y")
PREFIXES = ("un", "re", "in", "dis", "non", "pre", "over", "sub")


@dataclass(frozen=True)
class Rule:
    """A rule for how mapped words follow from their sources.

    Args:
        name: its name in the table `descriptions`.
        phrase: the object of "writes" or "suppresses" in a description.
        agrees: whether it holds for a source and a mapped word.
        needs: what holds wherever `agrees` does; it is quick, and shared by several rules, so that most pairs of words
            are tried once for all of them.
        level: 0 for a special rule; a rule of a higher level includes more special ones, and is used only if none of
            them holds or it holds for clearly more tokens.
        least: least share of tokens for which it holds.
    """

    name: str
    phrase: str
    agrees: Agrees
    needs: Agrees
    level: int = 0
    least: float = MIN_SHARE


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
    """Begins with the same letter, in any case, but differs in the next two."""
    source, word = source.casefold(), word.casefold()
    return source[:1].isalpha() and source[:1] == word[:1] and source[:3] != word[:3] and len(word) > 1


def is_spelt_alike(source: str, word: str) -> bool:
    """Another word with the same first four letters, or with all letters of a shorter word."""
    source, word = source.casefold(), word.casefold()
    shared = min(4, len(source), len(word))
    return source != word and shared >= SHORTEST_STEM and source[:shared].isalpha() and source[:shared] == word[:shared]


def _ends_after_stem(source: str, word: str) -> tuple[str, str] | None:
    """What follows the common beginning of two different words; None if that is not most of both."""
    source, word = source.casefold(), word.casefold()
    if source == word or not (source.isalpha() and word.isalpha()):
        return None
    shared = next(
        (at for at, (a, b) in enumerate(zip(source, word, strict=False)) if a != b), min(len(source), len(word))
    )
    if shared < max(SHORTEST_STEM, (len(source) + 1) // 2):
        return None
    return source[shared:], word[shared:]


def is_other_form(source: str, word: str) -> bool:
    """Another form of the word: both end, after what they have in common, in an ending."""
    ends = _ends_after_stem(source, word)
    if ends is None:
        return False
    # A consonant may be doubled in front of the ending: `slow slowed`, `stop stopping`.
    doubled = source[-1:].casefold()
    if len(source) - len(ends[0]) == SHORTEST_STEM:  # `act actions`, but not `car care`
        return ends[0] == "" and ends[1].removeprefix(doubled) in ("s", "ed", "ing", "er", "est", "ly", "ion", "ions")
    return ends[0] in FORM_ENDS and (
        ends[1] in FORM_ENDS or (ends[0] == "" and ends[1][:1] == doubled and ends[1][1:] in ("ed", "ing", "er", "est"))
    )


def with_ends(ends: tuple[str, ...], relations: tuple[str, ...]) -> Agrees:
    """A pair of one of these relations, or the source with one of these ends for its last two letters at most."""

    def agrees(source: str, word: str) -> bool:
        if (source.casefold(), word.casefold()) in _pairs(relations):
            return True
        found = _ends_after_stem(source, word)
        return found is not None and len(found[0]) <= 2 and found[1] != "" and word.casefold().endswith(ends)

    return agrees


def is_pair_of(*relations: str) -> Agrees:
    """A pair of one of these built-in relations, in any case."""
    return lambda source, word: (source.casefold(), word.casefold()) in _pairs(relations)


@cache
def _pairs(relations: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (source.casefold(), target.casefold())
        for relation in builtin_relations()
        if relation.name in relations
        for source, target in relation.pairs
    )


def is_negation(source: str, word: str) -> bool:
    """The word negated: `happy unhappy`, `could couldn`, `is isn`."""
    source, word = source.casefold(), word.casefold()
    if source in AUXILIARIES and word in (f"{source}n", f"{source}not", f"{source}n't"):
        return True
    return (source, word) in _pairs(("word_to_negation",))


def agrees_in_number(source: str, word: str) -> bool:
    """A pronoun, determiner or verb of many for a plural noun, of one for a singular one."""
    # A source comes without the space in front, by which the end of a word is told from a word.
    word, source = word.casefold(), f" {source}"
    return (word in OF_MANY and is_plural(source)) or (word in OF_ONE and is_singular(source))


def closes_bracket(source: str, word: str) -> bool:
    """The word closes the last bracket or quotation mark that the source opens."""
    opened = next((sign for sign in reversed(source) if sign in BRACKETS), None)
    return opened is not None and BRACKETS[opened] in word and BRACKETS[opened] not in source


def follows_comparative(source: str, word: str) -> bool:
    return word.casefold() == "than" and word_classes()["comparatives"](source)


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
        Rule("agreement", "a word of the same number", agrees_in_number, is_anything),
        Rule("closed bracket", "what closes the bracket", closes_bracket, is_anything),
        Rule("comparison", "than after comparatives", follows_comparative, is_anything),
        Rule("negation", "its negation", is_negation, is_anything, level=1),
        Rule("derived noun", "the noun made of it", with_ends(NOUN_ENDS, ("verb_to_noun", "adj_to_noun")), is_anything,
             level=1),
        Rule("derived adjective", "the adjective made of it", with_ends(ADJECTIVE_ENDS, ("noun_to_adj",)), is_anything,
             level=1),
        Rule("agent", "who or what does it", with_ends(AGENT_ENDS, ("verb_to_agent",)), is_anything, level=1),
        Rule("opposite", "its opposite", is_pair_of("word_to_antonym", "male_to_female"), is_anything, level=1),
        Rule("synonym", "a word of like meaning", is_pair_of("word_to_synonym"), is_anything, level=1),
        Rule("first letters", "the word's first letters", is_first_letters, is_short, level=1),
        Rule("last letters", "the word's last letters", is_last_letters, is_short, level=1),
        Rule("other case", "the word in another case", is_other_case, has_same_letters, level=1),
        Rule("other form", "other forms of the word", is_other_form, is_anything, level=1),
        Rule("completion", "words that begin with it", is_longer, is_anything, level=2),
        Rule("spelt alike", "words that begin alike", is_spelt_alike, is_anything, level=2),
        Rule("same first letter", "words with the same first letter", has_same_first_letter, is_anything, level=2,
             least=0.6),
    )  # fmt: skip


def _languages(name: str) -> tuple[str, str]:
    first, _, second = name.partition("_to_")
    return f"{first.capitalize()} words", second.capitalize()
