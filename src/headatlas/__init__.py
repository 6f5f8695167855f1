"""headatlas: what every attention head of a language model does, from its weights alone.

>>> import headatlas
>>> atlas = headatlas.map_heads("path/to/model")
>>> atlas.heads("Knowledge", min_score=0.9)[["name", "relation", "hits", "pairs"]]
   name            relation  hits  pairs
0  L1H2  country_to_capital    40     40

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.notebook import register

_HOME = {
    "Atlas": "headatlas.atlas",
    "Classification": "headatlas.analysis.categories",
    "Relation": "headatlas.relations",
    "ablate_heads": "headatlas.measuring.ablate",
    "attribute_logit": "headatlas.measuring.attribute",
    "audit_models": "headatlas.measuring.audit",
    "builtin_relations": "headatlas.relations",
    "classify": "headatlas.analysis.categories",
    "compare_atlases": "headatlas.analysis.compare",
    "compare_functions": "headatlas.analysis.compare_functions",
    "describe_atlas": "headatlas.measuring.describe",
    "draw_map": "headatlas.figures",
    "explore": "headatlas.explorer",
    "find_heads": "headatlas.measuring.find",
    "head_card": "headatlas.analysis.card",
    "import_headvis": "headatlas.measuring.import_headvis",
    "import_scores": "headatlas.measuring.import_scores",
    "load_atlas": "headatlas.atlas",
    "load_relations": "headatlas.relations",
    "map_heads": "headatlas.measuring.map",
    "measure_attention": "headatlas.measuring.attention",
    "measure_composition": "headatlas.measuring.composition",
    "measure_salient": "headatlas.measuring.salient",
    "plan_map": "headatlas.measuring.plan",
    "publish_atlas": "headatlas.sharing.publish",
    "pull_atlas": "headatlas.sharing.pull",
    "remove_heads": "headatlas.measuring.removing_adapter",
    "save_atlas": "headatlas.atlas",
    "survey_models": "headatlas.measuring.survey",
    "validate_atlas": "headatlas.measuring.validate",
    "write_card": "headatlas.reports.card",
    "write_model_card": "headatlas.reports.model_card",
    "write_report": "headatlas.reports.report",
}

__all__ = [
    "Atlas",
    "Classification",
    "Relation",
    "__version__",
    "ablate_heads",
    "attribute_logit",
    "audit_models",
    "builtin_relations",
    "classify",
    "compare_atlases",
    "compare_functions",
    "describe_atlas",
    "draw_map",
    "explore",
    "find_heads",
    "head_card",
    "import_headvis",
    "import_scores",
    "load_atlas",
    "load_relations",
    "map_heads",
    "measure_attention",
    "measure_composition",
    "measure_salient",
    "plan_map",
    "publish_atlas",
    "pull_atlas",
    "remove_heads",
    "save_atlas",
    "survey_models",
    "validate_atlas",
    "write_card",
    "write_model_card",
    "write_report",
]

if TYPE_CHECKING:
    from headatlas.analysis.card import head_card
    from headatlas.analysis.categories import Classification, classify
    from headatlas.analysis.compare import compare_atlases
    from headatlas.analysis.compare_functions import compare_functions
    from headatlas.atlas import Atlas, load_atlas, save_atlas
    from headatlas.explorer import explore
    from headatlas.figures import draw_map
    from headatlas.measuring.ablate import ablate_heads
    from headatlas.measuring.attention import measure_attention
    from headatlas.measuring.attribute import attribute_logit
    from headatlas.measuring.audit import audit_models
    from headatlas.measuring.composition import measure_composition
    from headatlas.measuring.describe import describe_atlas
    from headatlas.measuring.find import find_heads
    from headatlas.measuring.import_headvis import import_headvis
    from headatlas.measuring.import_scores import import_scores
    from headatlas.measuring.map import map_heads
    from headatlas.measuring.plan import plan_map
    from headatlas.measuring.removing_adapter import remove_heads
    from headatlas.measuring.salient import measure_salient
    from headatlas.measuring.survey import survey_models
    from headatlas.measuring.validate import validate_atlas
    from headatlas.relations import Relation, builtin_relations, load_relations
    from headatlas.reports.card import write_card
    from headatlas.reports.model_card import write_model_card
    from headatlas.reports.report import write_report
    from headatlas.sharing.publish import publish_atlas
    from headatlas.sharing.pull import pull_atlas


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headatlas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register()
