"""The relations of a run: the built-in ones or others, and further ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headatlas.errors import RelationError
from headatlas.relations.loading import builtin_relations, category_order, check_names, load_relations
from headatlas.relations.relation import Relation

RelationsLike = str | Path | Iterable[Relation | str | Path]
"""Relations, or the files and folders that hold them."""


def choose_relations(
    relations: RelationsLike | None = None, add_relations: RelationsLike | None = None
) -> list[Relation]:
    """The relations of a run, by category and name.

    Args:
        relations: default: the built-in relations.
        add_relations: further relations.

    Raises:
        RelationError: a file cannot be read as relations, two relations have the same name, or there are none.
    """
    chosen = builtin_relations() if relations is None else _as_relations(relations)
    chosen = chosen + ([] if add_relations is None else _as_relations(add_relations))
    check_names(chosen)
    if not chosen:
        raise RelationError("relations: expected at least one, found none.")
    return sorted(chosen, key=lambda relation: (category_order(relation.category), relation.name))


def _as_relations(given: RelationsLike) -> list[Relation]:
    relations: list[Relation] = []
    for each in [given] if isinstance(given, str | Path) else given:
        relations += [each] if isinstance(each, Relation) else load_relations(each)
    return relations
