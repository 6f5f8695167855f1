"""Classes of words and other tokens that have a name: pronouns, months, pieces of words, closing quotation marks.

A class is a function of a token's text, which keeps the space in front of words. Closed classes are lists; open ones
come from the built-in relations (the sources of `country_to_capital` are countries) and from endings. Words are English
ones, apart from scripts and signs. A class knows only the text; how often it is met by chance is not its business.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import pairwise

from headatlas.relations import builtin_relations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHORT = 3
"""Up to this many letters, words of other languages count as pieces of English words (` de`, ` com`)."""

PRONOUNS = _words(
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her "
    "hers herself it its itself they them their theirs themselves oneself one ones someone somebody something "
    "anyone anybody anything everyone everybody everything nobody nothing"
)
QUESTION_WORDS = _words("what who whom whose which when where why how whether whence wherein")
DETERMINERS = _words(
    "the a an this that these those each every any some another other both either neither no all such many few "
    "several most half own same"
)
PREPOSITIONS = _words(
    "about above across after against along amid among around as at before behind below beneath beside besides "
    "between beyond by despite down during except for from in inside into like near of off on onto out outside over "
    "past per through throughout till to toward towards under until unto up upon via with within without"
)
CONJUNCTIONS = _words(
    "and or but nor so yet if unless because since although though while whilst whereas than then once lest when where"
)
CONNECTIVES = _words(
    "however therefore thus hence moreover furthermore additionally similarly instead nevertheless nonetheless also "
    "otherwise meanwhile consequently accordingly finally secondly lastly likewise although despite though whereas "
    "rather still yet further according overall"
)
AUXILIARIES = _words(
    "am is are was were be been being have has had having do does did will would shall should can could may might "
    "must cannot isn aren wasn weren haven hasn hadn don doesn didn won wouldn shouldn couldn"
)
ADVERBS = _words(
    "very quite rather too almost nearly already still yet even just only also often sometimes never ever always "
    "now then soon once again here there today together away back perhaps maybe not"
)
NEGATIONS = _words(
    "no not never none nor neither nothing nobody nowhere without cannot isn aren wasn weren haven hasn hadn don "
    "doesn didn won wouldn shouldn couldn"
)
TIMES = _words(
    "now today yesterday tomorrow currently presently recently lately already once before after later earlier "
    "formerly previously yet still ago since until during then soon again"
)
DIRECTIONS = _words(
    "north south east west northern southern eastern western left right up down upper lower top bottom front back "
    "middle centre center central side"
)
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
    "billion trillion hundreds thousands millions"
)
ORDINALS = _words("first second third fourth fifth sixth seventh eighth ninth tenth last next")
MONTHS = _words(
    "january february march april may june july august september october november december jan feb mar apr jun jul "
    "aug sep sept oct nov dec"
)
WEEKDAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
COMPARED = _words("more less fewer further farther better worse greater lesser later earlier sooner")
SUPERLATIVES = _words("most least best worst")
CODE = _words(
    "elif else def import return class struct assert print const dict args np numpy https http www none true false "
    "int str var self null void func lambda pylint noqa pytest sqlalchemy asyncio shutil pathlib tempfile hashlib "
    "unittest pdb nargs metavar setattr getattr hasattr iteritems makedirs plotlib matplotlib linestyle linewidth "
    "xticks faiss jsonify kwargs argparse ndarray setdefault startswith endswith tolist isinstance dataclass "
    "newaxis argmax staticmethod"
)

NOT_VERBS = _words(
    "thing nothing everything something anything during morning evening spring string king bring ring wing sing "
    "swing according ceiling sibling"
)
NOT_PAST = _words("need seed feed speed indeed hundred sacred exceed proceed succeed breed united")
NOT_PLURALS = _words(
    "always perhaps series species means news thus across towards besides sometimes afterwards christmas texas "
    "atlas paris james charles thomas mars gas bias canvas this his its was has does less yes plus us is as ours "
    "hers theirs jesus mathematics physics"
)
NOT_ADVERBS = _words("family only early apply reply supply july italy daily likely friendly assembly")

_PROSE = re.compile(
    r"[—–―-]{1,3}|[(\[{]|[)\]}]|[)\]]?[.,;:!?…]{0,3}[\"'”’»]{0,2}|[\"'“”‘’«»]{1,2}|['’]\w{1,2}|[%&/*+=°§©#_$€£]"
)
"""Signs as they occur in prose; others of two and more are those of programs."""

_BRITISH = re.compile(
    r"(al|an|ar|er|or|in|on|im|at|it|ol)is(e|ed|es|ing|ation|ations)|"
    r"(col|lab|neighb|fav|hon|hum|behavi|arm|rum|harb|vap|vig|endeav|glam|savi|od|parl|tum|splend|ferv|ranc)our[a-z]*|"
    r"(cent|theat|lit|fib|calib|meag|somb|spect|lust)re(s|d)?"
)

_CLOSING = frozenset(")]}>)】」』")
_OPENING = frozenset("([{<(【「『")
_QUOTES = frozenset("\"“”‘’«»„'")
_STOPS = frozenset(".!?…")


@cache
def _relation(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The sources and the targets of a built-in relation, without case."""
    found = next(each for each in builtin_relations() if each.name == name)
    sides = zip(*found.pairs, strict=True)
    sources, targets = (frozenset(word.casefold() for word in side) for side in sides)
    return sources, targets


def _sources(*names: str) -> frozenset[str]:
    return frozenset().union(*(_relation(name)[0] for name in names))


def _targets(*names: str) -> frozenset[str]:
    return frozenset().union(*(_relation(name)[1] for name in names))


@cache
def known_words(foreign: bool = True) -> frozenset[str]:
    """Words that are certainly whole: those of the lists here and of the built-in relations, without case.

    Args:
        foreign: those of translations too, which are English and other words.
    """
    lists = (PRONOUNS, QUESTION_WORDS, DETERMINERS, PREPOSITIONS, CONJUNCTIONS, CONNECTIVES, AUXILIARIES, ADVERBS)
    more = (NUMBERS, ORDINALS, MONTHS, WEEKDAYS, DIRECTIONS, TIMES, NEGATIONS)
    skipped = ("abbreviation_to_word", "element_to_symbol", "us_state_to_abbreviation", "name_to_initial")
    spelling = ("word_to_first_letter", "word_to_last_letter")
    relations = [
        each
        for each in builtin_relations()
        if each.name not in (*skipped, *spelling) and (foreign or each.category != "Translation")
    ]
    return frozenset().union(*lists, *more, *(_sources(each.name) | _targets(each.name) for each in relations))


@cache
def _endings() -> Counter[str]:
    """How many known words end in each three letters."""
    return Counter(word[-3:] for word in known_words() if word.isalpha() and len(word) > 3)


@cache
def _beginnings() -> frozenset[str]:
    """What at least five letters of a known word begin with, without the last two letters or more."""
    words = [word for word in known_words() if word.isalpha()]
    return frozenset(word[:end] for word in words for end in range(5, len(word) - 1))


_ENDINGS = (("ies", "y"), ("ied", "y"), ("es", ""), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("er", ""),
            ("er", "e"), ("ly", ""), ("al", ""), ("ment", ""), ("ness", ""), ("s", ""))  # fmt: skip


def _is_known(folded: str) -> bool:
    """Whether a word without case is a known one or a form of one."""
    return folded in known_words(foreign=len(folded) > SHORT) or any(
        folded.endswith(end) and len(folded) - len(end) >= 3 and folded[: -len(end)] + instead in known_words()
        for end, instead in _ENDINGS
    )


def is_readable(token: str) -> bool:
    """Whether a token by itself says something: a known word, a sign of prose, or a single letter.

    Of other languages and scripts only the words of translations are known: others look like pieces of words.
    """
    word = token.strip()
    if len(word) <= 1:
        return True
    if word.isascii() and word.isalpha():
        # Without a space in front, `thens` is the end of a name rather than a form of `then`.
        inside = word.islower() and not token.startswith((" ", "▁"))
        return word.casefold() in known_words() if inside else _is_known(word.casefold())
    if word.isdigit() or word.casefold() in known_words() or _PROSE.fullmatch(word):
        return True
    # Signs that are not ASCII are no names of programs; vowel signs (M) are parts of words, as letters are.
    return not word.isascii() and not any(unicodedata.category(sign)[0] in "LM" for sign in word)


def unread_kind(tokens: Sequence[str]) -> str:
    """What tokens that are not readable are pieces of, to be named in a sentence.

    >>> unread_kind(["strugg", "ients"]), unread_kind(["өнья"]), unread_kind(["өнья", "ิก"])
    ('words or code', 'text in Cyrillic script', 'text in several scripts')
    """
    scripts = {script(token) for token in tokens}
    if None in scripts:
        return "words or code"
    return f"text in {scripts.pop()} script" if len(scripts) == 1 else "text in several scripts"


@lru_cache(100_000)
def is_piece(token: str) -> bool:
    """Whether a token is a piece of a word rather than a word: ` strugg`, `requently`.

    Without a list of all words this is a guess by spelling: no known word, no form of one, and too short or with an end
    that fewer than two known words have, or the beginning of a known one.
    """
    word = token.strip()
    if not (word.isascii() and word.isalpha()) or word.isupper():
        return False
    folded = word.casefold()
    if _is_known(folded):
        return False
    if not token.startswith((" ", "▁")) and word.islower() and len(word) > 1:
        return True
    return len(folded) <= SHORT or _endings()[folded[-3:]] < 2 or folded in _beginnings()


def _in(words: frozenset[str]) -> Callable[[str], bool]:
    return lambda token: token.strip().casefold() in words


def _is_comparative(token: str) -> bool:
    return token.strip().casefold() in _targets("adj_to_comparative") | COMPARED


def _is_superlative(token: str) -> bool:
    return token.strip().casefold() in _targets("adj_to_superlative") | SUPERLATIVES


def _is_form(token: str, end: str, least: int) -> bool:
    """A whole word of at least that many letters with that end."""
    word = token.strip().casefold()
    return word.endswith(end) and len(word) >= least and word.isalpha() and not is_piece(token)


def _is_gerund(token: str) -> bool:
    word = token.strip().casefold()
    return _is_form(token, "ing", 5) and word not in NOT_VERBS


def _is_past(token: str) -> bool:
    word = token.strip().casefold()
    if word in _sources("past_tense_to_verb") and word not in _sources("verb_to_past_tense"):
        return True
    return _is_form(token, "ed", 5) and word not in NOT_PAST


def _is_third_person(token: str) -> bool:
    word = token.strip().casefold()
    if word in _targets("noun_to_plural") or not word.isalpha():
        return False
    return word in _targets("verb_to_third_person") or (word.endswith(("ates", "izes", "ifies")) and len(word) > 6)


def is_plural(token: str) -> bool:
    """Whether a word is a plural noun, as far as relations and endings show."""
    word = token.strip().casefold()
    if word in _sources("plural_to_noun"):
        return True
    ends = _is_form(token, "s", 5) and not word.endswith(("ss", "us", "is"))
    return ends and word not in NOT_PLURALS and not _is_third_person(token)


def is_singular(token: str) -> bool:
    """Whether a word is a noun of which a built-in relation has the plural."""
    return token.strip().casefold() in _targets("plural_to_noun")


def _is_adverb(token: str) -> bool:
    word = token.strip().casefold()
    if word in _sources("adverb_to_adj"):
        return True
    return _is_form(token, "ly", 6) and word not in NOT_ADVERBS


def _is_adjective(token: str) -> bool:
    word = token.strip().casefold()
    return word in _sources("adj_to_adverb", "adj_to_noun", "adj_to_comparative") | _targets("noun_to_adj")


def _is_verb(token: str) -> bool:
    word = token.strip().casefold()
    return word in _sources("verb_to_past_tense", "verb_to_noun", "verb_to_agent")


def _is_place(token: str) -> bool:
    word = token.strip().casefold()
    return word in _sources("country_to_capital", "country_to_demonym", "city_to_country", "us_state_to_capital")


def _is_person(token: str) -> bool:
    word = token.strip().casefold()
    singular = word[:-1] if word.endswith("s") else word
    people = _targets("person_to_occupation", "verb_to_agent", "male_to_female") | _sources(
        "work_to_location", "male_to_female"
    )
    return singular in (people | _PEOPLE) - PRONOUNS


_PEOPLE = _words(
    "person people human individual citizen resident patient customer employee student scholar scientist expert "
    "child children parent adult member user reader leader owner friend learner participant colleague researcher "
    "men women american jew"
)


def _is_british(token: str) -> bool:
    word = token.strip().casefold()
    return word in _sources("british_to_american") or (
        len(word) >= 7 and _BRITISH.search(word) is not None and word.isalpha()
    )


_ORGANISATIONS = _words(
    "university college school museum hospital prison company laboratory lab classroom church library office bank "
    "court department government association institute institution club factory agency society foundation committee "
    "council corporation academy ministry parliament congress organization organisation journal station theatre "
    "theater"
)


def _is_organisation(token: str) -> bool:
    word = token.strip().casefold()
    return (
        word in _ORGANISATIONS
        or word.removesuffix("s") in _ORGANISATIONS
        or re.sub("ies$", "y", word) in _ORGANISATIONS
    )


@cache
def _things() -> dict[str, frozenset[str]]:
    """The things of each everyday class of which a built-in relation has at least 8."""
    found = next(each for each in builtin_relations() if each.name == "object_to_superclass")
    counts = Counter(target for _, target in found.pairs)
    return {
        name: frozenset(source.casefold() for source, target in found.pairs if target == name)
        for name, count in counts.items()
        if count >= 8
    }


def _is_thing(name: str) -> Callable[[str], bool]:
    def holds(token: str) -> bool:
        word = token.strip().casefold()
        things = _things()[name]
        return word in things or (word.endswith("s") and word[:-1] in things)

    return holds


def _is_capitalised(token: str) -> bool:
    word = token.strip()
    return len(word) > 1 and word.isalpha() and word[0].isupper() and word[1:].islower()


def _is_upper(token: str) -> bool:
    word = token.strip()
    return len(word) > 1 and word.isalpha() and word.isupper()


def _is_letter(token: str) -> bool:
    word = token.strip()
    return len(word) == 1 and word.isascii() and word.isalpha()


def _is_digits(token: str) -> bool:
    word = token.strip()
    return word.isascii() and word.isdigit()


def _is_space(token: str) -> bool:
    """White space only, or with the underscores of a line to fill in."""
    return token != "" and not token.strip().strip("_")


def _has(signs: frozenset[str]) -> Callable[[str], bool]:
    """Signs of prose among which is one of these."""

    def holds(token: str) -> bool:
        word = token.strip()
        return any(sign in signs for sign in word) and _PROSE.fullmatch(word) is not None and not _is_code(token)

    return holds


def _is_code(token: str) -> bool:
    """A name or sign of programs: `MetaInfo`, `setattr`, `]);`."""
    word = token.strip()
    if word.casefold() in CODE:
        return True
    if word.isascii() and word.isalpha():
        return any(a.islower() and b.isupper() for a, b in pairwise(word))
    return len(word) >= 2 and not _PROSE.fullmatch(word) and not any(map(str.isalpha, word))


def script(token: str) -> str | None:
    """The script of a token's letters if none of them is Latin, such as `Cyrillic`; None otherwise."""
    found = None
    for sign in token.strip():
        if not sign.isalpha():
            continue
        name = unicodedata.name(sign, "LATIN").split()[0].split("-")[0]
        if name in ("LATIN", "FULLWIDTH", "MODIFIER", "FEMININE", "MASCULINE", "MICRO", "BLACK", "MATHEMATICAL"):
            return None
        found = "Chinese" if name == "CJK" else "Japanese" if name in ("HIRAGANA", "KATAKANA") else name.capitalize()
    return found


Holds = Callable[[str], bool]

CLOSED: dict[str, Holds] = {
    "pronouns": _in(PRONOUNS),
    "question words": _in(QUESTION_WORDS),
    "determiners": _in(DETERMINERS),
    "prepositions": _in(PREPOSITIONS),
    "conjunctions": _in(CONJUNCTIONS),
    "connectives": _in(CONNECTIVES),
    "auxiliary verbs": _in(AUXILIARIES),
    "adverbs of degree and time": _in(ADVERBS),
    "negations": _in(NEGATIONS),
    "words of time": _in(TIMES),
}
OPEN: dict[str, Holds] = {
    "comparatives": _is_comparative,
    "superlatives": _is_superlative,
    "numbers": lambda token: token.strip().casefold() in NUMBERS or _is_digits(token),
    "ordinals": _in(ORDINALS),
    "months": _in(MONTHS),
    "weekdays": _in(WEEKDAYS),
    "directions": _in(DIRECTIONS),
    "first names": lambda token: _is_capitalised(token) and token.strip().casefold() in _sources("name_copying"),
    "places": _is_place,
    "organisations": _is_organisation,
    "nationalities": lambda token: token.strip().casefold() in _sources("demonym_to_country"),
    "colours": lambda token: token.strip().casefold() in _targets("object_to_colour") | _things()["color"],
    "words for people": _is_person,
    "verbs in -ing": _is_gerund,
    "verbs in the past": _is_past,
    "verbs in the third person": _is_third_person,
    "verbs": _is_verb,
    "adjectives": _is_adjective,
    "adverbs in -ly": _is_adverb,
    "plural nouns": is_plural,
    "British spellings": _is_british,
    "American spellings": lambda token: token.strip().casefold() in _targets("british_to_american"),
    "names and signs of code": _is_code,
}
SIGNS: dict[str, Holds] = {
    "closing brackets": _has(_CLOSING),
    "opening brackets": _has(_OPENING),
    "quotation marks": _has(_QUOTES),
    "ends of sentences": _has(_STOPS),
    "white space and blanks": _is_space,
    "single letters": _is_letter,
    "words in capitals": _is_upper,
}
GENERAL: dict[str, Holds] = {
    "function words": lambda token: any(holds(token) for holds in CLOSED.values()),
    "capitalised words": _is_capitalised,
    "pieces of words": is_piece,
}


@cache
def all_classes() -> dict[str, Holds]:
    """All classes by their names, which are plural; special ones first."""
    things = {_plural(name): _is_thing(name) for name in _things() if name != "color"}  # they are `colours`
    return CLOSED | OPEN | {name: holds for name, holds in things.items() if name not in OPEN} | SIGNS | GENERAL


def _plural(name: str) -> str:
    return name[:-1] + "ies" if name.endswith("y") else name + "s"


@lru_cache(200_000)
def classes_of(token: str) -> frozenset[str]:
    """The names of all classes that a token is of, and its script, if that is not Latin."""
    found = {name for name, holds in all_classes().items() if holds(token)}
    if (written := script(token)) is not None:
        found.add(f"{written} letters")
    return frozenset(found)


WITHOUT_TOPIC = frozenset(
    {
        "numbers",
        "ordinals",
        "months",
        "weekdays",
        "directions",
        "first names",
        "places",
        "nationalities",
        "comparatives",
    }
    | {"names and signs of code", "single letters", "pieces of words", *CLOSED}
)
"""Classes whose words lie close together without a topic, or whose name says more than examples."""


def is_content(token: str) -> bool:
    """Whether a token is a word that can have a topic: no function word, number, name or piece of a word."""
    return token.strip().isalpha() and not WITHOUT_TOPIC & classes_of(token)
