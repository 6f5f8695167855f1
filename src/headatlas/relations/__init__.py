"""Relations: pairs of words, where they come from, and what a tokenizer keeps of them."""

from headatlas.relations.encoding import DROP_REASONS, EncodedRelation, encode_relations
from headatlas.relations.loading import BUILTIN_VERSION, builtin_relations, category_order, check_names, load_relations
from headatlas.relations.relation import CATEGORIES, OTHER, Relation, set_hash

__all__ = [
    "BUILTIN_VERSION",
    "CATEGORIES",
    "DROP_REASONS",
    "OTHER",
    "EncodedRelation",
    "Relation",
    "builtin_relations",
    "category_order",
    "check_names",
    "encode_relations",
    "load_relations",
    "set_hash",
]
