"""Write the built-in relations: `handmade/` in, `src/headatlas/relations/data/NAME.json` out.

A relation is two columns of a table in `handmade/` (the same column twice for copying), or a rule that needs no table.
The build uses no tokenizer: the words are common and correct, and a model keeps those that are one token for it.

    python relations_build/build.py            write all files
    python relations_build/build.py --check    write nothing; exit 1 if a file differs, is missing or is left over
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
DATA = HERE.parent / "src" / "headatlas" / "relations" / "data"
Pair = tuple[str, str]


class Table(NamedTuple):
    """Two columns of `handmade/{name}.tsv`; `both_ways` adds the reverse of every pair."""

    name: str
    source: str
    target: str
    both_ways: bool = False

    def pairs(self) -> list[Pair]:
        rows = read_table(self.name)
        pairs = [
            (source, target)
            for row in rows
            for source in words(row[self.source])
            for target in words(row[self.target])
            if source != target or self.source == self.target
        ]
        return pairs + [(target, source) for source, target in pairs] if self.both_ways else pairs


class Letter(NamedTuple):
    """The words of a table's first column, and one of their letters."""

    name: str
    position: int

    def pairs(self) -> list[Pair]:
        return [(word, word[self.position]) for row in read_table(self.name) for word in [next(iter(row.values()))]]


class Sequences(NamedTuple):
    """Neighbours in the lines of `handmade/{name}.txt`, forwards (`step` 1) or backwards (-1)."""

    name: str
    step: int

    def pairs(self) -> list[Pair]:
        lines = (HERE / "handmade" / f"{self.name}.txt").read_text("utf-8").splitlines()
        return [pair for line in lines for pair in pairwise(line.split()[:: self.step])]


class Numbers(NamedTuple):
    """The numbers from `first` up to `last`, and the number after each."""

    first: int
    last: int

    def pairs(self) -> list[Pair]:
        return [(str(number), str(number + 1)) for number in range(self.first, self.last + 1)]


class Spec(NamedTuple):
    name: str
    category: str
    description: str
    origin: Table | Letter | Sequences | Numbers
    k: str = "standard"


ALGORITHMIC, KNOWLEDGE, LINGUISTIC, TRANSLATION = "Algorithmic", "Knowledge", "Linguistic", "Translation"
LANGUAGES = ("french", "spanish", "german", "italian", "portuguese")

SPECS = (
    Spec("copying", ALGORITHMIC, "A common word to itself.", Table("words", "word", "word"), "copying"),
    Spec("name_copying", ALGORITHMIC, "A first name to itself.", Table("names", "name", "name"), "copying"),
    Spec("word_to_first_letter", ALGORITHMIC, "A word to its first letter, in lower case.", Letter("words", 0)),
    Spec("word_to_last_letter", ALGORITHMIC, "A word to its last letter, in lower case.", Letter("words", -1)),
    Spec("name_to_initial", ALGORITHMIC, "A first name to its first letter, in upper case.", Letter("names", 0)),
    Spec("year_to_following", ALGORITHMIC, "A year to the year after it.", Numbers(1800, 2029)),
    Spec("number_to_following", ALGORITHMIC, "A number, in digits, to the next one.", Numbers(0, 200)),
    Spec(
        "item_to_following",
        ALGORITHMIC,
        "A weekday, month, season, letter, planet, number word or ordinal to the next one.",
        Sequences("sequences", 1),
    ),
    Spec(
        "item_to_preceding",
        ALGORITHMIC,
        "A weekday, month, season, letter, planet, number word or ordinal to the one before it.",
        Sequences("sequences", -1),
    ),
    Spec(
        "number_word_to_digits",
        ALGORITHMIC,
        "A number word or ordinal to its digits.",
        Table("numbers", "word", "digits"),
    ),
    Spec(
        "word_to_capitalised",
        ALGORITHMIC,
        "A word in lower case to the word with a capital.",
        Table("cases", "word", "capitalised"),
    ),
    Spec(
        "capitalised_to_word",
        ALGORITHMIC,
        "A word with a capital to the word in lower case.",
        Table("cases", "capitalised", "word"),
    ),
    Spec(
        "word_to_uppercase",
        ALGORITHMIC,
        "A word in lower case to the word in upper case.",
        Table("cases", "word", "uppercase"),
    ),
    Spec("country_to_capital", KNOWLEDGE, "A country to its capital.", Table("countries", "country", "capital")),
    Spec("capital_to_country", KNOWLEDGE, "A capital to its country.", Table("countries", "capital", "country")),
    Spec(
        "country_to_language",
        KNOWLEDGE,
        "A country to an official or main language.",
        Table("countries", "country", "language"),
    ),
    Spec("country_to_currency", KNOWLEDGE, "A country to its currency.", Table("countries", "country", "currency")),
    Spec(
        "country_to_demonym",
        KNOWLEDGE,
        "A country to the adjective for its people.",
        Table("countries", "country", "demonym"),
    ),
    Spec(
        "demonym_to_country",
        KNOWLEDGE,
        "The adjective for a country's people to the country.",
        Table("countries", "demonym", "country"),
    ),
    Spec(
        "country_to_continent",
        KNOWLEDGE,
        "A country to its continent: Africa, Asia, Europe or Oceania (the Americas are two words).",
        Table("countries", "country", "continent"),
    ),
    Spec("city_to_country", KNOWLEDGE, "A large city to its country.", Table("cities", "city", "country")),
    Spec("us_state_to_capital", KNOWLEDGE, "A US state to its capital.", Table("us_states", "state", "capital")),
    Spec(
        "us_state_to_abbreviation",
        KNOWLEDGE,
        "A US state to its postal abbreviation.",
        Table("us_states", "state", "abbreviation"),
    ),
    Spec("us_city_to_state", KNOWLEDGE, "A US city to its state.", Table("us_cities", "city", "state")),
    Spec(
        "object_to_superclass",
        KNOWLEDGE,
        "A thing to the everyday class that it belongs to.",
        Table("superclasses", "object", "superclass"),
    ),
    Spec(
        "object_to_colour",
        KNOWLEDGE,
        "A thing to its typical colour (American spelling).",
        Table("colours", "object", "colour"),
    ),
    Spec(
        "work_to_location",
        KNOWLEDGE,
        "An occupation to a place where it is carried out.",
        Table("workplaces", "worker", "workplace"),
    ),
    Spec(
        "product_to_company",
        KNOWLEDGE,
        "A product to a company that made or makes it.",
        Table("products", "product", "company"),
    ),
    Spec(
        "person_to_occupation",
        KNOWLEDGE,
        "A famous person's name to the person's occupation.",
        Table("people", "person", "occupation"),
    ),
    Spec("element_to_symbol", KNOWLEDGE, "A chemical element to its symbol.", Table("elements", "element", "symbol")),
    Spec(
        "word_to_antonym",
        LINGUISTIC,
        "A word to its opposite, in both directions.",
        Table("antonyms", "word", "antonym", both_ways=True),
    ),
    Spec(
        "word_to_synonym",
        LINGUISTIC,
        "A word to a word of nearly the same meaning, in both directions.",
        Table("synonyms", "word", "synonym", both_ways=True),
    ),
    Spec(
        "word_to_homophone",
        LINGUISTIC,
        "A word to one that sounds the same in General American, in both directions.",
        Table("homophones", "word", "homophone", both_ways=True),
    ),
    Spec(
        "word_to_compound",
        LINGUISTIC,
        "A word to a one-word compound that begins with it.",
        Table("compounds", "word", "compound"),
    ),
    Spec(
        "word_to_negation",
        LINGUISTIC,
        "A word to its negation or reversal by a prefix.",
        Table("negations", "word", "negation"),
    ),
    Spec(
        "adj_to_comparative",
        LINGUISTIC,
        "An adjective (or a few adverbs) to the comparative.",
        Table("adjectives", "adjective", "comparative"),
    ),
    Spec(
        "adj_to_superlative",
        LINGUISTIC,
        "An adjective (or a few adverbs) to the superlative.",
        Table("adjectives", "adjective", "superlative"),
    ),
    Spec(
        "comparative_to_superlative",
        LINGUISTIC,
        "A comparative to the superlative of the same adjective.",
        Table("adjectives", "comparative", "superlative"),
    ),
    Spec(
        "adj_to_adverb",
        LINGUISTIC,
        "An adjective to the adverb formed from it.",
        Table("adverbs", "adjective", "adverb"),
    ),
    Spec(
        "adverb_to_adj",
        LINGUISTIC,
        "An adverb to the adjective that it is formed from.",
        Table("adverbs", "adverb", "adjective"),
    ),
    Spec(
        "adj_to_noun",
        LINGUISTIC,
        "An adjective to the noun for the quality.",
        Table("qualities", "adjective", "noun"),
    ),
    Spec(
        "noun_to_adj",
        LINGUISTIC,
        "A noun to an adjective formed from it.",
        Table("noun_adjectives", "noun", "adjective"),
    ),
    Spec("noun_to_plural", LINGUISTIC, "A noun to its plural.", Table("nouns", "singular", "plural")),
    Spec("plural_to_noun", LINGUISTIC, "A plural to its singular.", Table("nouns", "plural", "singular")),
    Spec(
        "noun_to_pronoun",
        LINGUISTIC,
        "A noun to the pronoun that replaces it: he, she, it or they.",
        Table("pronouns", "noun", "pronoun"),
    ),
    Spec("male_to_female", LINGUISTIC, "A male word to its female counterpart.", Table("genders", "male", "female")),
    Spec("verb_to_past_tense", LINGUISTIC, "A verb to its past tense.", Table("verbs", "verb", "past")),
    Spec("past_tense_to_verb", LINGUISTIC, "A verb's past tense to the verb.", Table("verbs", "past", "verb")),
    Spec("verb_to_past_participle", LINGUISTIC, "A verb to its past participle.", Table("verbs", "verb", "participle")),
    Spec("verb_to_gerund", LINGUISTIC, "A verb to its -ing form.", Table("verbs", "verb", "gerund")),
    Spec("gerund_to_verb", LINGUISTIC, "A verb's -ing form to the verb.", Table("verbs", "gerund", "verb")),
    Spec(
        "verb_to_third_person",
        LINGUISTIC,
        "A verb to its third person singular.",
        Table("verbs", "verb", "third_person"),
    ),
    Spec(
        "verb_to_agent",
        LINGUISTIC,
        "A verb to the word for a person or thing that does it.",
        Table("agents", "verb", "agent"),
    ),
    Spec(
        "verb_to_noun",
        LINGUISTIC,
        "A verb to the noun for the act or its result.",
        Table("nominalisations", "verb", "noun"),
    ),
    Spec(
        "abbreviation_to_word",
        LINGUISTIC,
        "An abbreviation or clipped word to the full word.",
        Table("abbreviations", "abbreviation", "word"),
    ),
    Spec(
        "british_to_american",
        LINGUISTIC,
        "A British spelling or form to the American one.",
        Table("spellings", "british", "american"),
    ),
    *(
        Spec(
            f"english_to_{language}",
            TRANSLATION,
            f"An English word to its everyday {language.capitalize()} translation.",
            Table("translations", "english", language),
        )
        for language in LANGUAGES
    ),
    *(
        Spec(
            f"{language}_to_english",
            TRANSLATION,
            f"An everyday {language.capitalize()} word to its English translation.",
            Table("translations", language, "english"),
        )
        for language in LANGUAGES
    ),
)


def words(cell: str | None) -> list[str]:
    """The words of a cell: `got/gotten` contains two, an empty cell none."""
    return [word for word in (cell or "").split("/") if word]


def read_table(name: str) -> list[dict[str, str]]:
    with (HERE / "handmade" / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def content(spec: Spec) -> str:
    """The text of a relation's file: one pair per line, so that a change to one pair changes one line."""
    head = {
        "name": spec.name,
        "category": spec.category,
        "description": spec.description,
        "k": spec.k,
        "source": "written for headatlas",
        "license": "CC0-1.0",
    }
    lines = [f"  {json.dumps(key)}: {dumps(value)}," for key, value in head.items()]
    pairs = ",\n".join(f"    {dumps(pair)}" for pair in unique(spec.origin.pairs()))
    return "\n".join(["{", *lines, '  "pairs": [', pairs, "  ]", "}", ""])


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def unique(pairs: Iterable[Pair]) -> list[Pair]:
    return list(dict.fromkeys(pairs))


def differing(expected: dict[str, str]) -> list[str]:
    """Names of the files in DATA that differ from the build: changed, missing or left over."""
    found = {path.name: path.read_bytes().decode("utf-8") for path in DATA.glob("*.json")}
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    expected = {f"{spec.name}.json": content(spec) for spec in SPECS}
    names = differing(expected)
    if parser.parse_args().check:
        for name in names:
            print(f"{name}: differs from what relations_build/build.py makes from handmade/. Run it without --check.")
        return 1 if names else 0
    DATA.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in expected:
            (DATA / name).write_bytes(expected[name].encode("utf-8"))
            print(f"wrote {name}")
        else:
            print(f"{name}: there is no such relation; delete the file if it is not needed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
