"""Relations: pairs of words, the files they come from, and the pairs that a tokenizer keeps."""

from headatlas.relations.choosing import RelationsLike, choose_relations
from headatlas.relations.encoding import DROP_REASONS, DroppedPair, EncodedRelation, encode_relations
from headatlas.relations.loading import BUILTIN_VERSION, builtin_relations, category_order, check_names, load_relations
from headatlas.relations.relation import CATEGORIES, OTHER, Relation, set_hash
from headatlas.relations.titles import find_relation, relation_title

__all__ = [
    "BUILTIN_VERSION",
    "CATEGORIES",
    "DROP_REASONS",
    "OTHER",
    "DroppedPair",
    "EncodedRelation",
    "Relation",
    "RelationsLike",
    "builtin_relations",
    "category_order",
    "check_names",
    "choose_relations",
    "encode_relations",
    "find_relation",
    "load_relations",
    "relation_title",
    "set_hash",
]
