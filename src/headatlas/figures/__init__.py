"""Figures of an atlas: the map of heads, the scores of one relation, comparisons, and the files they are saved as.

Knows the atlas, not how it was measured. The drawing code is loaded on first use: importing this package is cheap, and
`PALETTES` needs no matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headatlas.figures.palettes import PALETTES

_HOME = {
    "draw_ablation": "headatlas.figures.ablation",
    "draw_attribution": "headatlas.figures.attribution",
    "draw_audit": "headatlas.figures.audit",
    "draw_comparison": "headatlas.figures.comparison",
    "draw_composition": "headatlas.figures.composition",
    "draw_function_comparison": "headatlas.figures.function_comparison",
    "draw_functions_of_models": "headatlas.figures.functions_of_models",
    "draw_map": "headatlas.figures.map",
    "draw_reading": "headatlas.figures.reading",
    "draw_sensitivity": "headatlas.figures.sensitivity",
    "draw_sizes": "headatlas.figures.functions_of_models",
    "draw_survey": "headatlas.figures.survey",
    "draw_validation": "headatlas.figures.validation",
    "draw_written": "headatlas.figures.written",
    "render": "headatlas.figures.saving",
    "save_figure": "headatlas.figures.saving",
}

__all__ = [
    "PALETTES",
    "draw_ablation",
    "draw_attribution",
    "draw_audit",
    "draw_comparison",
    "draw_composition",
    "draw_function_comparison",
    "draw_functions_of_models",
    "draw_map",
    "draw_reading",
    "draw_sensitivity",
    "draw_sizes",
    "draw_survey",
    "draw_validation",
    "draw_written",
    "render",
    "save_figure",
]

if TYPE_CHECKING:
    from headatlas.figures.ablation import draw_ablation
    from headatlas.figures.attribution import draw_attribution
    from headatlas.figures.audit import draw_audit
    from headatlas.figures.comparison import draw_comparison
    from headatlas.figures.composition import draw_composition
    from headatlas.figures.function_comparison import draw_function_comparison
    from headatlas.figures.functions_of_models import draw_functions_of_models, draw_sizes
    from headatlas.figures.map import draw_map
    from headatlas.figures.reading import draw_reading
    from headatlas.figures.saving import render, save_figure
    from headatlas.figures.sensitivity import draw_sensitivity
    from headatlas.figures.survey import draw_survey
    from headatlas.figures.validation import draw_validation
    from headatlas.figures.written import draw_written


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headatlas.figures' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
