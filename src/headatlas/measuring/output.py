"""What a finished run writes into its folder: figures, report, page and data, the manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import EVIDENCE, HITS, MANIFEST, SCORES, SIDES, Atlas, save_atlas, save_evidence
from headatlas.atlas.evidence import Facts
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import pandas as pd

FIGURE_FORMATS = ("png", "svg", "pdf")
EVIDENCE_FORMATS = ("png", "svg")
FIGURES = {"score": "figure", "suppression": "suppression"}
SENSITIVITY = "sensitivity"
REPORT = "report.md"
PAGE = "explorer.html"
OUTPUTS = (
    MANIFEST,
    SCORES,
    HITS,
    REPORT,
    PAGE,
    *(f"{stem}.{fmt}" for stem in (*FIGURES.values(), SENSITIVITY) for fmt in FIGURE_FORMATS),
    *(f"{name}.parquet" for name in EVIDENCE),
)
"""All files that a map writes; the figures of `validate` and `ablate` are not among them."""


Evidence = dict[str, "tuple[pd.DataFrame, Facts]"]
"""Tables of evidence by name, each with the facts that the manifest keeps of it."""


def write_results(atlas: Atlas, folder: str | Path) -> None:
    """Write figures, report, page and data of an atlas; the manifest last, so that a broken run leaves no atlas.

    Raises:
        AtlasError: the folder cannot be written.
    """
    from headatlas.explorer import write_page
    from headatlas.figures import draw_map, draw_sensitivity
    from headatlas.reports import build_report, to_markdown

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for side in SIDES if atlas.has_suppression else ("score",):
            save_pictures(draw_map(atlas, side=side), folder / FIGURES[side])
        has_ranks = atlas.pair_hits is not None and "rank" in atlas.pair_hits
        if has_ranks:
            save_pictures(draw_sensitivity(atlas), folder / SENSITIVITY)
        report = build_report(
            atlas,
            figure=f"{FIGURES['score']}.png",
            suppression_figure=f"{FIGURES['suppression']}.png" if atlas.has_suppression else None,
            sensitivity_figure=f"{SENSITIVITY}.png" if has_ranks else None,
        )
        write_atomically(folder / REPORT, lambda path: path.write_text(to_markdown(report), "utf-8"))
        write_page(folder / PAGE, atlas, reports=[report])
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    save_atlas(atlas, folder)


def add_evidence(atlas: Atlas, tables: Evidence) -> Atlas:
    """The atlas with tables of evidence and their facts, saved with a new page in its folder, if it has one."""
    from headatlas.explorer import write_page

    atlas = save_evidence(atlas, tables)
    if atlas.folder is not None and (atlas.folder / PAGE).is_file():
        write_page(atlas.folder / PAGE, atlas)
    return atlas


def save_pictures(figure: Any, stem: Path, formats: Sequence[str] = FIGURE_FORMATS) -> None:
    """Save a figure in several formats, at a path without suffix."""
    from headatlas.figures import save_figure

    for fmt in formats:
        save_figure(figure, stem.with_name(f"{stem.name}.{fmt}"))
