"""Relations from files: the built-in set, and a user's own as JSON, CSV, TSV or a folder of such files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from headatlas.bounded_json import STRUCTURE, TooLarge, check_size
from headatlas.errors import RelationError
from headatlas.regular_files import at_home, read_regular_text
from headatlas.relations.relation import CATEGORIES, OTHER, Relation

BUILTIN_VERSION = "1"
"""Increased whenever a built-in relation changes; every manifest has the hashes of its relations as well."""

SUFFIXES = (".json", ".csv", ".tsv")
MAX_BYTES, MAX_PAIRS, MAX_VALUES = 16 << 20, 100_000, 500_000
"""A larger file, or one with more values (pairs and words), would only fill the memory."""


def builtin_relations() -> list[Relation]:
    """The relations that headatlas contains, by category and name."""
    return list(_read_builtin_relations())


@cache
def _read_builtin_relations() -> tuple[Relation, ...]:
    """Read once, since the descriptions of heads ask for them at every list of words."""
    files = (Path(__file__).parent / "data").glob("*.json")
    relations = [_from_json(path.read_text("utf-8"), path.name, path.stem) for path in files]
    return tuple(sorted(relations, key=lambda relation: (category_order(relation.category), relation.name)))


def load_relations(paths: str | Path | Iterable[str | Path]) -> list[Relation]:
    """Read relations from files and folders (`.json`, `.csv`, `.tsv`), in the order given.

    A JSON file contains an object with `pairs` (and optionally `name`, `category`, `k`, `description`, `source`,
    `license`), or a list of pairs. A table has the columns `source` and `target`. The default name is that of the file,
    without its suffix.

    Raises:
        RelationError: there is no such file, a file cannot be read as pairs, or two relations have the same name.
    """
    relations = []
    for path in [paths] if isinstance(paths, str | Path) else list(paths):
        path = at_home(path)
        if os.path.isdir(path):
            files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
            if not files:
                raise RelationError(
                    f"{path}: expected relation files ({', '.join(SUFFIXES)}) in this folder, found none."
                )
        elif os.path.isfile(path):
            files = [path]
        else:
            raise RelationError(f"{path}: expected a relation file or a folder of them, found nothing there.")
        relations.extend(_load_file(file) for file in files)
    check_names(relations)
    return relations


def check_names(relations: Iterable[Relation]) -> None:
    """Refuse two relations of the same name, because results are stored by name."""
    seen: set[str] = set()
    for relation in relations:
        if relation.name in seen:
            raise RelationError(
                f"relation {relation.name!r}: expected one relation of this name, found two. Rename one."
            )
        seen.add(relation.name)


def category_order(category: str) -> tuple[int, str]:
    """Sort key: the built-in categories in their order, then other categories by name, then `Other`."""
    if category in CATEGORIES:
        return CATEGORIES.index(category), ""
    return len(CATEGORIES) + (category == OTHER), category


def _load_file(path: Path) -> Relation:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RelationError(
            f"{path}: expected a relation file with the suffix {', '.join(SUFFIXES)}, found {suffix or 'no suffix'}."
        )
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RelationError(
                f"{path}: expected a list of word pairs of at most {MAX_BYTES:,} bytes, found {size:,}."
            )
        text = read_regular_text(path, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise RelationError(
            f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#04x} at {error.start}."
        ) from error
    except OSError as error:
        raise RelationError(f"{path}: cannot be read ({error.strerror}).") from error
    if suffix == ".json":
        return _from_json(text, str(path), path.stem)
    return _from_table(text, str(path), path.stem, delimiter="," if suffix == ".csv" else "\t")


def _from_json(text: str, where: str, default_name: str) -> Relation:
    _check_values(text, where, STRUCTURE)
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RelationError(f"{where}: expected JSON, found {error}.") from error
    except ValueError as error:  # Python converts no text of so many digits
        raise RelationError(
            f"{where}: expected JSON with pairs of words, found a number of thousands of digits."
        ) from error
    if isinstance(content, list):
        content = {"pairs": content}
    if not isinstance(content, dict) or not isinstance(content.get("pairs"), list):
        raise RelationError(f"{where}: expected a list of pairs, or an object with the key 'pairs' and such a list.")
    known = {"name", "category", "k", "description", "source", "license", "pairs"}
    if unknown := sorted(set(content) - known):
        raise RelationError(
            f"{where}: expected only the keys {', '.join(sorted(known))}, found also {unknown[0][:80]!r}."
        )
    for key in ("description", "source", "license"):
        if not isinstance(content.get(key, ""), str):
            raise RelationError(f"{where}: {key!r} must be text, found {repr(content[key])[:80]}.")
    pairs = tuple(_pair(pair, f"{where}: pair {number}") for number, pair in enumerate(content["pairs"], start=1))
    return _relation(where, **{"name": default_name, **content, "pairs": pairs})


def _from_table(text: str, where: str, default_name: str, delimiter: str) -> Relation:
    _check_values(text, where, f"{delimiter}\n")
    # Quotes are ordinary characters in TSV, so that no word needs quoting.
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting))
    except csv.Error as error:
        raise RelationError(f"{where}: cannot be read as a table ({error}).") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "source" not in header or "target" not in header:
        found = ", ".join(header) or "an empty file"
        raise RelationError(f"{where}: expected the columns source and target in the first line, found {found}.")
    source, target = header.index("source"), header.index("target")
    pairs = []
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise RelationError(f"{where}: line {line}: expected {len(header)} columns, found {len(row)}.")
        pairs.append(_pair([row[source], row[target]], f"{where}: line {line}"))
    return _relation(where, name=default_name, pairs=tuple(pairs))


def _check_values(text: str, where: str, structure: str) -> None:
    """Refuse a text of more values than a relation can have, before each becomes an object."""
    try:
        check_size(text, MAX_VALUES, structure)
    except TooLarge as error:
        raise RelationError(f"{where}: expected pairs of words, {error}. Split the relation.") from error


def _pair(pair: object, where: str) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(word, str) for word in pair):
        raise RelationError(f"{where}: expected two words [source, target], found {str(pair)[:80]!r}.")
    source, target = (word.strip() for word in pair)
    if not source or not target:
        raise RelationError(f"{where}: expected two words, found an empty word in {pair!r}.")
    return source, target


def _relation(where: str, pairs: tuple[tuple[str, str], ...], **content: object) -> Relation:
    if len(pairs) > MAX_PAIRS:
        raise RelationError(f"{where}: expected at most {MAX_PAIRS:,} pairs, found {len(pairs):,}. Split the relation.")
    try:
        return Relation(pairs=pairs, **content)  # type: ignore[arg-type]
    except RelationError as error:
        raise RelationError(f"{where}: {error}") from error
