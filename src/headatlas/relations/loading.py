"""Relations from files: the built-in set, and a user's own as JSON, CSV, TSV or a folder of those."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from headatlas.errors import RelationError
from headatlas.relations.relation import CATEGORIES, OTHER, Relation

BUILTIN_VERSION = "1"
"""Raised whenever a built-in relation changes; its hash is in every manifest as well."""

SUFFIXES = (".json", ".csv", ".tsv")
MAX_BYTES = 64 * 1024 * 1024
"""A larger file is no list of word pairs; reading it would only use up memory."""


def builtin_relations() -> list[Relation]:
    """The relations that come with headatlas, by category and name."""
    folder = resources.files("headatlas.relations") / "data"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".json")), key=lambda entry: entry.name)
    relations = [_from_json(entry.read_text("utf-8"), entry.name, entry.name.removesuffix(".json")) for entry in files]
    return sorted(relations, key=lambda relation: (category_order(relation.category), relation.name))


def load_relations(paths: str | Path | Iterable[str | Path]) -> list[Relation]:
    """Read relations from files and folders (`.json`, `.csv`, `.tsv`), in the order given.

    A JSON file holds an object with `pairs` (and, if wanted, `name`, `category`, `k`, `description`, `source`,
    `license`) or a bare list of pairs; a table has the columns `source` and `target`. The name defaults to the file's.

    Raises:
        RelationError: nothing there, a file that cannot be read as pairs, or two relations of one name.
    """
    relations = []
    for path in [paths] if isinstance(paths, str | Path) else list(paths):
        path = Path(path).expanduser()
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
            if not files:
                raise RelationError(
                    f"{path}: expected relation files ({', '.join(SUFFIXES)}) in this folder, found none."
                )
        elif path.is_file():
            files = [path]
        else:
            raise RelationError(f"{path}: expected a relation file or a folder of them, found nothing there.")
        relations.extend(_load_file(file) for file in files)
    check_names(relations)
    return relations


def check_names(relations: Iterable[Relation]) -> None:
    """Refuse two relations of one name: results are kept by name."""
    seen: set[str] = set()
    for relation in relations:
        if relation.name in seen:
            raise RelationError(
                f"relation {relation.name!r}: expected one relation of this name, found two. Rename one of them."
            )
        seen.add(relation.name)


def category_order(category: str) -> tuple[int, str]:
    """Sort key: the built-in categories in their order, then others by name, `Other` last."""
    if category in CATEGORIES:
        return CATEGORIES.index(category), ""
    return len(CATEGORIES) + (category == OTHER), category


def _load_file(path: Path) -> Relation:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RelationError(
            f"{path}: expected a relation file ending in {', '.join(SUFFIXES)}, found {suffix or 'no ending'}."
        )
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RelationError(
                f"{path}: expected a list of word pairs of at most {MAX_BYTES:,} bytes, found {size:,}."
            )
        text = path.read_text("utf-8-sig")
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
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RelationError(f"{where}: expected JSON, found {error}.") from error
    if isinstance(content, list):
        content = {"pairs": content}
    if not isinstance(content, dict) or not isinstance(content.get("pairs"), list):
        raise RelationError(f"{where}: expected a list of pairs, or an object with the key 'pairs' that holds one.")
    known = {"name", "category", "k", "description", "source", "license", "pairs"}
    if unknown := sorted(set(content) - known):
        raise RelationError(f"{where}: expected only the keys {', '.join(sorted(known))}, found {unknown[0]!r} too.")
    for key in ("description", "source", "license"):
        if not isinstance(content.get(key, ""), str):
            raise RelationError(f"{where}: {key!r} must be text, found {content[key]!r}.")
    pairs = tuple(_pair(pair, f"{where}: pair {number}") for number, pair in enumerate(content["pairs"], start=1))
    return _relation(where, **{"name": default_name, **content, "pairs": pairs})


def _from_table(text: str, where: str, default_name: str, delimiter: str) -> Relation:
    # Quotes are ordinary characters in TSV, so that a word list needs no quoting.
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


def _pair(pair: object, where: str) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(word, str) for word in pair):
        raise RelationError(f"{where}: expected two words [source, target], found {str(pair)[:80]!r}.")
    source, target = (word.strip() for word in pair)
    if not source or not target:
        raise RelationError(f"{where}: expected two words, found an empty one in {pair!r}.")
    return source, target


def _relation(where: str, **content: object) -> Relation:
    try:
        return Relation(**content)  # type: ignore[arg-type]
    except RelationError as error:
        raise RelationError(f"{where}: {error}") from error
