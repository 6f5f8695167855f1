"""The report: what the map shows in sentences and numbers."""

from __future__ import annotations

from headatlas.analysis.findings import analyse
from headatlas.analysis.functions import find_functions
from headatlas.atlas import Atlas
from headatlas.reports import beyond_chance as chance
from headatlas.reports import composition, copying, findings, provenance, reading, running, written
from headatlas.reports.blocks import Blocks, Picture, Title, line
from headatlas.reports.markdown import to_markdown


def build_report(
    atlas: Atlas,
    threshold: str | float | None = None,
    side: str = "score",
    rule: str | None = None,
    figure: str | None = None,
    suppression_figure: str | None = None,
    sensitivity_figure: str | None = None,
) -> Blocks:
    """The blocks of the report of an atlas.

    What is not known reads `not known`, what cannot be measured `not measurable`, never zero. Every p-value names its
    test, and from p = 0.05 on no direction is claimed.

    Args:
        threshold: strict limit, 0 to 1; default: the atlas's own.
        side: `score` or `suppression`.
        rule: `plain` or `calibrated`; default: the atlas's own.
        figure, suppression_figure, sensitivity_figure: relative names of pictures to show.

    Raises:
        AtlasError: suppression or `calibrated` is asked for and was not measured.
        SettingsError: an argument is out of its range.
    """
    found = analyse(atlas, threshold, side, rule)
    suppressing = side == "suppression"
    functions = None if suppressing else find_functions(atlas, threshold)
    of_suppression = "Map of the suppressing heads by category"
    return (
        Title(line(f"{'Suppression' if suppressing else 'Heads'} of {atlas.name}")),
        *_picture(of_suppression if suppressing else "Map of the heads by category", figure),
        *provenance.warning(atlas),
        *findings.in_short(atlas, found, reading.named_functions(functions)),
        *provenance.settings_line(atlas, found),
        *findings.heads_per_category(atlas, found),
        *chance.how_far_chance(atlas, found),
        *copying.how_far_copying(found),
        *_picture("Classified heads by threshold and k", sensitivity_figure),
        *findings.where_in_layers(found),
        *findings.early_and_late(found),
        *findings.which_meet(found),
        *findings.layers_or_heads(atlas, found),
        *findings.rare_and_exceptional(found),
        *findings.strongest_heads(atlas, side),
        *([] if suppressing else findings.suppression(atlas, found, _picture(of_suppression, suppression_figure))),
        *([] if suppressing else reading.where_heads_look(atlas, functions)),
        *([] if suppressing else composition.which_heads_feed(atlas)),
        *([] if suppressing else written.written_sentences(atlas)),
        *running.agreement(atlas),
        *running.ablation(atlas),
        *provenance.coverage(atlas, found),
        *provenance.validity(atlas),
        *provenance.settings_and_versions(atlas, found),
        *provenance.citation(atlas),
        *provenance.limits(atlas, found),
    )


def write_report(
    atlas: Atlas,
    threshold: str | float | None = None,
    side: str = "score",
    rule: str | None = None,
    figure: str | None = None,
    suppression_figure: str | None = None,
    sensitivity_figure: str | None = None,
) -> str:
    """The report of an atlas, as Markdown; arguments and errors are those of `build_report`."""
    return to_markdown(build_report(atlas, threshold, side, rule, figure, suppression_figure, sensitivity_figure))


def _picture(text: str, file: str | None) -> list[Picture]:
    return [Picture(text, file)] if file else []
