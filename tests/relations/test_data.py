"""The built-in relations: their form, facts that can be computed, and that the build script makes these files."""

import importlib.util
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "src" / "headatlas" / "relations" / "data"
BUILD = ROOT / "relations_build" / "build.py"
KEYS = ["name", "category", "description", "k", "source", "license", "pairs"]

REQUIRED = {
    "Algorithmic": "copying name_copying word_to_first_letter word_to_last_letter year_to_following",
    "Knowledge": "country_to_capital country_to_language object_to_superclass work_to_location product_to_company",
    "Linguistic": "word_to_antonym adj_to_comparative adj_to_superlative verb_to_past_tense noun_to_pronoun "
    "word_to_synonym word_to_homophone word_to_compound",
    "Translation": "english_to_french english_to_spanish",
}
LANGUAGES = ("french", "spanish", "german", "italian", "portuguese")
DIRECTED = """
    adj_to_comparative adj_to_superlative noun_to_plural verb_to_gerund verb_to_third_person verb_to_past_tense
    male_to_female adj_to_adverb year_to_following country_to_capital word_to_compound word_to_negation
"""
COPYING = {"copying", "name_copying"}
SEVERAL_CAPITALS = {
    "Brazil": {"Brasília", "Brasilia"},
    "Colombia": {"Bogotá", "Bogota"},
    "Congo": {"Kinshasa", "Brazzaville"},  # two countries of that name
    "Ukraine": {"Kyiv", "Kiev"},
}

FILES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(DATA.glob("*.json"))}


def pairs(name: str) -> list[tuple[str, str]]:
    return [(source, target) for source, target in FILES[name]["pairs"]]


def targets(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source, target in pairs(name):
        found.setdefault(source, set()).add(target)
    return found


def test_the_required_relations_are_there_under_their_category():
    for category, names in REQUIRED.items():
        for name in names.split():
            assert FILES[name]["category"] == category


def test_at_least_twelve_more_and_every_category_gains_some():
    required = {name for names in REQUIRED.values() for name in names.split()}
    more = [relation["category"] for name, relation in FILES.items() if name not in required]
    assert len(more) >= 12
    assert set(more) == set(REQUIRED)


@pytest.mark.parametrize("name", FILES)
def test_form(name):
    relation = FILES[name]
    assert list(relation) == KEYS
    assert relation["name"] == name
    assert relation["category"] in REQUIRED
    assert relation["k"] == ("copying" if name in COPYING else "standard")
    assert all(isinstance(relation[key], str) and relation[key].strip() for key in KEYS[:-1])
    assert relation["description"].endswith(".") and "\n" not in relation["description"]
    assert 30 <= len(relation["pairs"]) <= 400


@pytest.mark.parametrize("name", FILES)
def test_words(name):
    assert all(isinstance(pair, list) and len(pair) == 2 for pair in FILES[name]["pairs"])
    for source, target in pairs(name):
        for word in (source, target):
            assert word and word == "".join(word.split()), f"{word!r} is empty or holds a space"
            assert word == unicodedata.normalize("NFC", word) and word.isprintable()
        assert (source == target) == (name in COPYING), (source, target)
    assert len(set(pairs(name))) == len(pairs(name))


def test_letters_are_the_letters():
    assert all(target == source[0].lower() for source, target in pairs("word_to_first_letter"))
    assert all(target == source[-1].lower() for source, target in pairs("word_to_last_letter"))
    assert all(target == source[0] and target.isupper() for source, target in pairs("name_to_initial"))
    first = {target for _, target in pairs("word_to_first_letter")}
    assert len(first) >= 24, "nearly every letter begins some word, so that one letter's head cannot pass"


def test_following_numbers():
    for name in ("year_to_following", "number_to_following"):
        assert all(int(target) == int(source) + 1 for source, target in pairs(name))


def test_case():
    assert all(target == source.capitalize() for source, target in pairs("word_to_capitalised"))
    assert all(target == source.upper() and source.islower() for source, target in pairs("word_to_uppercase"))


@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        ("item_to_following", "item_to_preceding"),
        ("word_to_capitalised", "capitalised_to_word"),
        ("country_to_capital", "capital_to_country"),
        ("country_to_demonym", "demonym_to_country"),
        ("noun_to_plural", "plural_to_noun"),
        ("verb_to_past_tense", "past_tense_to_verb"),
        ("verb_to_gerund", "gerund_to_verb"),
        ("adj_to_adverb", "adverb_to_adj"),
        *((f"english_to_{other}", f"{other}_to_english") for other in LANGUAGES),
    ],
)
def test_reverses(name, reverse):
    assert {(target, source) for source, target in pairs(name)} == set(pairs(reverse))


@pytest.mark.parametrize("name", ["word_to_antonym", "word_to_synonym", "word_to_homophone"])
def test_symmetric_relations_hold_both_directions(name):
    assert {(target, source) for source, target in pairs(name)} == set(pairs(name))


@pytest.mark.parametrize("name", DIRECTED.split())
def test_directed_relations_hold_no_reversed_pair(name):
    assert not {(target, source) for source, target in pairs(name)} & set(pairs(name))


def test_no_pair_is_both_synonym_and_antonym():
    assert not set(pairs("word_to_synonym")) & set(pairs("word_to_antonym"))


def test_inflections_look_like_inflections():
    irregular = {"further", "farther", "better", "worse", "less", "more"}
    assert all(target.endswith("er") or target in irregular for _, target in pairs("adj_to_comparative"))
    assert all(
        target.endswith("est") or target in {"worst", "least", "most"} for _, target in pairs("adj_to_superlative")
    )
    assert all(target.endswith("ing") for _, target in pairs("verb_to_gerund"))
    assert all(target.endswith("s") for _, target in pairs("verb_to_third_person"))
    assert all(target.endswith("ly") or target == "well" for _, target in pairs("adj_to_adverb"))
    assert all(
        target.startswith(source) and len(target) >= len(source) + 2 for source, target in pairs("word_to_compound")
    )
    assert all(target.endswith(source) for source, target in pairs("word_to_negation"))


def test_a_country_has_one_capital_and_a_capital_one_country():
    capitals = {country: found for country, found in targets("country_to_capital").items() if len(found) > 1}
    assert capitals == SEVERAL_CAPITALS
    shared = {capital: found for capital, found in targets("capital_to_country").items() if len(found) > 1}
    assert shared == {"London": {"Britain", "England"}}


def test_an_element_and_a_state_have_one_symbol_of_their_own():
    symbols = {(source.lower(), target) for source, target in pairs("element_to_symbol")}
    spelt_twice = {"aluminium", "sulphur", "caesium"}
    assert len({source for source, _ in symbols}) == len(symbols)
    assert len({target for _, target in symbols}) == len(symbols) - len(spelt_twice)
    assert all(len(target) == 2 and target.isupper() for _, target in pairs("us_state_to_abbreviation"))
    assert len({target for _, target in pairs("us_state_to_abbreviation")}) == len(pairs("us_state_to_abbreviation"))


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("country_to_capital", "Australia", {"Canberra"}),
        ("country_to_capital", "Turkey", {"Ankara"}),
        ("country_to_currency", "Switzerland", {"franc"}),
        ("country_to_language", "Belgium", {"Dutch", "French", "German"}),
        ("word_to_antonym", "hot", {"cold"}),
        ("verb_to_past_tense", "bring", {"brought"}),
        ("verb_to_past_participle", "get", {"got", "gotten"}),
        ("noun_to_plural", "child", {"children"}),
        ("adj_to_comparative", "good", {"better"}),
        ("item_to_following", "Sunday", {"Monday"}),
        ("item_to_following", "December", {"January"}),
        ("element_to_symbol", "lead", {"Pb"}),
        ("english_to_french", "dog", {"chien"}),
        ("english_to_spanish", "water", {"agua"}),
        ("english_to_german", "tree", {"Baum"}),
    ],
)
def test_known_facts(name, source, expected):
    assert targets(name)[source] == expected


@pytest.mark.parametrize("name", [name for name, relation in FILES.items() if relation["category"] == "Translation"])
def test_translations_are_not_spelt_like_the_original(name):
    assert all(source.lower() != target.lower() for source, target in pairs(name))


def test_check_finds_the_files_as_built():
    """All relations are written by hand, so that this needs no package beyond the standard library."""
    result = subprocess.run([sys.executable, str(BUILD), "--check"], capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_check_names_a_changed_a_missing_and_a_leftover_file(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("relations_build", BUILD)
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    for path in DATA.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = tmp_path / "country_to_capital.json"
    changed.write_text(changed.read_text("utf-8").replace("Canberra", "Sydney"), "utf-8")
    (tmp_path / "copying.json").unlink()
    (tmp_path / "leftover.json").write_text("{}\n", "utf-8")
    monkeypatch.setattr(build, "DATA", tmp_path)
    monkeypatch.setattr(sys, "argv", ["build.py", "--check"])
    assert build.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["copying.json", "country_to_capital.json", "leftover.json"]


def test_every_table_is_used_and_every_row_has_a_cell():
    spec = importlib.util.spec_from_file_location("relations_build", BUILD)
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    used = {origin.name for origin in (spec.origin for spec in build.SPECS) if hasattr(origin, "name")}
    assert used == {path.stem for path in (BUILD.parent / "handmade").iterdir()}
    for path in (BUILD.parent / "handmade").glob("*.tsv"):
        width = len(path.read_text("utf-8").splitlines()[0].split("\t"))
        for line in path.read_text("utf-8").splitlines():
            assert line.strip() and len(line.split("\t")) <= width, f"{path.name}: {line!r}"
