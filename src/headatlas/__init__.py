"""headatlas: what every attention head of a language model does, from its weights alone.

>>> import headatlas
>>> atlas = headatlas.map_heads("gpt2")  # doctest: +SKIP
>>> atlas.figure(); atlas.heads("Knowledge")  # doctest: +SKIP

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Atlas": "headatlas.atlas",
    "Classification": "headatlas.categories",
    "Relation": "headatlas.relations",
    "ablate_heads": "headatlas.running",
    "builtin_relations": "headatlas.relations",
    "classify": "headatlas.categories",
    "compare_atlases": "headatlas.comparison",
    "find_heads": "headatlas.cards.finding",
    "import_scores": "headatlas.importing",
    "load_atlas": "headatlas.atlas",
    "load_relations": "headatlas.relations",
    "map_heads": "headatlas.survey",
    "plan_map": "headatlas.planning",
    "survey_models": "headatlas.many_models",
    "validate_atlas": "headatlas.running",
}

__all__ = [
    "Atlas",
    "Classification",
    "Relation",
    "__version__",
    "ablate_heads",
    "builtin_relations",
    "classify",
    "compare_atlases",
    "find_heads",
    "import_scores",
    "load_atlas",
    "load_relations",
    "map_heads",
    "plan_map",
    "survey_models",
    "validate_atlas",
]

if TYPE_CHECKING:
    from headatlas.atlas import Atlas, load_atlas
    from headatlas.cards.finding import find_heads
    from headatlas.categories import Classification, classify
    from headatlas.comparison import compare_atlases
    from headatlas.importing import import_scores
    from headatlas.many_models import survey_models
    from headatlas.planning import plan_map
    from headatlas.relations import Relation, builtin_relations, load_relations
    from headatlas.running import ablate_heads, validate_atlas
    from headatlas.survey import map_heads


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headatlas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
