"""The report: what the map shows in sentences and numbers, as Markdown."""

from __future__ import annotations

from urllib.parse import quote

from headatlas.analysis import analyse
from headatlas.atlas import Atlas
from headatlas.reports import beyond_chance as chance
from headatlas.reports import findings, provenance
from headatlas.reports.text import escape


def write_report(
    atlas: Atlas,
    threshold: str | float | None = None,
    side: str = "score",
    profile: str | None = None,
    figure: str | None = None,
    suppression_figure: str | None = None,
    sensitivity_figure: str | None = None,
) -> str:
    """The report of an atlas, as Markdown.

    What is not known reads `not known`, what cannot be measured `not measurable`, never zero. Every p-value names its
    test, and from p = 0.05 on no direction is claimed.

    Args:
        threshold: strict limit, 0 to 1; default: the atlas's own.
        side: `score` or `suppression`.
        profile: `maps` or `calibrated`; default: the atlas's own.
        figure, suppression_figure, sensitivity_figure: relative names of pictures to show.

    Raises:
        AtlasError: suppression or `calibrated` is asked for and was not measured.
        SettingsError: an argument is out of its range.
    """
    found = analyse(atlas, threshold, side, profile)
    suppressing = side == "suppression"
    parts = [
        f"# {'Suppression' if suppressing else 'Heads'} of {escape(atlas.name)}",
        _picture("Map of the suppressing heads by category" if suppressing else "Map of the heads by category", figure),
        findings.in_short(atlas, found),
        provenance.settings_line(atlas, found),
        findings.heads_per_category(atlas, found),
        chance.how_far_chance(atlas, found, _picture("Classified heads by threshold and k", sensitivity_figure)),
        findings.where_in_layers(found),
        findings.early_and_late(found),
        findings.which_meet(found),
        findings.layers_or_heads(atlas, found),
        findings.rare_and_exceptional(found),
        findings.strongest_heads(atlas, side),
        ""
        if suppressing
        else findings.suppression(
            atlas, found, _picture("Map of the suppressing heads by category", suppression_figure)
        ),
        provenance.coverage(atlas, found),
        provenance.validity(atlas),
        provenance.settings_and_versions(atlas, found),
        provenance.citation(atlas),
        provenance.limits(atlas, found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _picture(text: str, name: str | None) -> str:
    return f"![{text}]({quote(name, safe='/.-_~')})" if name else ""
