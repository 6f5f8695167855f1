"""What a finished run writes into its folder: figures, report, page and data, the manifest last."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import EVIDENCE, HITS, MANIFEST, PAIRS, SCORES, SIDES, Atlas, save_atlas, save_evidence
from headatlas.atlas.evidence import Facts
from headatlas.atomic import make_folder, write_atomically
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import pandas as pd

    from headatlas.atlas import Manifest

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
    PAIRS,
    REPORT,
    PAGE,
    *(f"{stem}.{fmt}" for stem in (*FIGURES.values(), SENSITIVITY) for fmt in FIGURE_FORMATS),
    *(f"{name}.parquet" for name in EVIDENCE),
)
"""All files that a map writes; the pictures of evidence are not among them, see `evidence_pictures`."""


Evidence = dict[str, "tuple[pd.DataFrame, Facts]"]
"""Tables of evidence by name, each with the facts that the manifest keeps of it."""


def write_results(atlas: Atlas, folder: str | Path) -> None:
    """Write figures, report, page and data of an atlas; the manifest last, so that a broken run leaves no atlas.

    Raises:
        AtlasError: the folder cannot be written.
    """
    from headatlas.figures import draw_map, draw_sensitivity

    folder = Path(folder)
    try:
        make_folder(folder)
        for side in SIDES if atlas.has_suppression else ("score",):
            save_pictures(draw_map(atlas, side=side), folder / FIGURES[side])
        if _has_ranks(atlas):
            save_pictures(draw_sensitivity(atlas), folder / SENSITIVITY)
        _tell(atlas, folder, (REPORT, PAGE))
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    save_atlas(atlas, folder)


def add_evidence(atlas: Atlas, tables: Evidence) -> Atlas:
    """The atlas with tables of evidence and their facts, saved in its folder, if it has one.

    A report and a page that are there are written anew, so that they agree with the tables.

    Raises:
        AtlasError: the folder cannot be written.
    """
    atlas = save_evidence(atlas, tables)
    folder = atlas.folder
    if folder is not None:
        try:
            _tell(atlas, folder, [name for name in (REPORT, PAGE) if (folder / name).is_file()])
        except OSError as error:
            raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    return atlas


def _tell(atlas: Atlas, folder: Path, files: Collection[str]) -> None:
    """Write some of report and page, from one report; it shows the pictures that are in the folder."""
    from headatlas.explorer import write_page
    from headatlas.reports.markdown import to_markdown
    from headatlas.reports.report import build_report

    def drawn(stem: str, wanted: bool = True) -> str | None:
        name = f"{stem}.png"
        return name if wanted and (folder / name).is_file() else None

    if not files:
        return
    report = build_report(
        atlas,
        figure=drawn(FIGURES["score"]),
        suppression_figure=drawn(FIGURES["suppression"], atlas.has_suppression),
        sensitivity_figure=drawn(SENSITIVITY, _has_ranks(atlas)),
    )
    if REPORT in files:
        write_atomically(folder / REPORT, lambda path: path.write_text(to_markdown(report), "utf-8"))
    if PAGE in files:
        write_page(folder / PAGE, atlas, reports=[report])


def _has_ranks(atlas: Atlas) -> bool:
    return atlas.pair_hits is not None and "rank" in atlas.pair_hits


def evidence_pictures(manifest: Manifest) -> list[str]:
    """Names of the pictures that come with the evidence of an atlas."""
    found, stems = manifest.evidence, []
    drawn = {"validation": found.validation, "reading": found.attention, "composition": found.composition}
    drawn["written"] = found.written
    stems += [stem for stem, facts in drawn.items() if facts is not None]
    stems += [ablation_picture(name) for name in (found.ablation.relations if found.ablation else ())]
    return [f"{stem}.{fmt}" for stem in stems for fmt in EVIDENCE_FORMATS]


def ablation_picture(relation: str) -> str:
    """Name of the picture of a relation's ablation, without suffix."""
    return f"ablation-{file_name(relation)}"


def file_name(relation: str) -> str:
    """A relation's name as a safe part of a file name."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", relation)
    return safe if safe == relation else f"{safe[:60]}-{hashlib.sha256(relation.encode()).hexdigest()[:8]}"


def save_pictures(figure: Any, stem: Path, formats: Sequence[str] = FIGURE_FORMATS) -> None:
    """Save a figure in several formats, at a path without suffix."""
    from headatlas.figures import save_figure

    for fmt in formats:
        save_figure(figure, stem.with_name(f"{stem.name}.{fmt}"))
