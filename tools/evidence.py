"""The tables and pictures of docs/evidence.md, from atlases that `headatlas validate` and `ablate --against` measured:

    python tools/evidence.py docs/images MODEL ALONE MAPS [MODEL ALONE MAPS ...]

MODEL is a name, ALONE an atlas of the profile `alone` with both measurements, and MAPS one of the profile `maps` of the
same model. Both profiles are compared with the running model as ALONE measured it, all terms counted.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

import headatlas
from headatlas.analysis.ablation import RemovalCurves, RemovalPoint, removal_curves
from headatlas.analysis.correlations import Mean, correlate, known_correlations, mean_over_relations
from headatlas.atlas import Atlas
from headatlas.atlas.evidence import CONDITIONS, TOTAL_EFFECT, Status
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, plain_style, style_plot

PROFILES = ("maps", "alone")
REMOVED = 4
"""Heads whose removal the table shows."""

KINDS = {
    "whole": "whole model", "alone": "by alone", "maps": "by maps", "random": "random heads",
    "controls": "other tasks, by alone",
}  # fmt: skip
COLOURS = {"whole": INK, "alone": "#1f77b4", "maps": "#ff7f0e", "random": "#9a9a9a", "controls": "#2ca02c"}


def running(atlas: Atlas, condition: str) -> Any:
    """Rows of the running model, for sources of one token."""
    table: Any = atlas.evidence("validation")
    return table[(table["tokens"] == "one") & (table["condition"] == condition)]


def named(atlas: Atlas) -> set[str]:
    """The relations that some head implements."""
    return {str(name) for name in atlas.relations if len(atlas.heads(relation=str(name), rule="plain"))}


def mean(atlas: Atlas, table: Any) -> Mean | None:
    """Mean of Pearson's correlations over the relations of a table, with an interval over relations."""
    rows = [row for row in mean_over_relations(correlate(atlas, table)) if row.side == "score"]
    return rows[0].pearson if rows else None


def shown(found: Mean | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:.3f}" if found.low is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def agreement(models: dict[str, dict[str, Atlas]]) -> None:
    """Print the mean correlations of either profile, over all relations and over those that some head implements."""
    conditions = (*CONDITIONS, TOTAL_EFFECT)
    print(
        f"| model | profile | relations | {' | '.join(conditions)} |\n| --- | --- | --- |{' ---: |' * len(conditions)}"
    )
    for name, atlases in models.items():
        known = named(atlases["alone"])
        for profile in PROFILES:
            for which in ("all", "with a head"):
                cells, used = [], set()
                for condition in conditions:
                    table = running(atlases["alone"], condition)
                    table = table if which == "all" else table[table["relation"].isin(known)]
                    used |= set(table["relation"])
                    cells.append(shown(mean(atlases[profile], table)))
                print(f"| {name} | `{profile}` | {which}: {len(used)} | {' | '.join(cells)} |")
    print("\n| model | pooled over heads and templates: " + " | ".join(CONDITIONS) + " |\n| --- | ---: | ---: |")
    for name, atlases in models.items():
        rows = mean_over_relations(known_correlations(atlases["alone"]))
        pooled = {row.condition: row.pooled for row in rows if (row.side, row.tokens) == ("score", "one")}
        print(f"| {name} | {' | '.join(shown(pooled.get(condition)) for condition in CONDITIONS)} |")


def ceiling(models: dict[str, dict[str, Atlas]]) -> None:
    """Print how well the running model's own two conditions agree, with attention fixed and in context."""
    for name, atlases in models.items():
        tables = [running(atlases["alone"], condition) for condition in CONDITIONS]
        fixed, within = (table.set_index(["relation", "layer", "head"])["score"] for table in tables)
        found = [
            np.corrcoef(of_relation, within[relation])[0, 1]
            for relation, of_relation in fixed.groupby("relation")
            if of_relation.std() and within[relation].std()
        ]
        print(f"{name}: attention-fixed against in-context {np.mean(found):.3f}, of {len(found)} relations")


def by_relation(models: dict[str, dict[str, Atlas]]) -> None:
    """Print the correlations of the profile alone for each relation."""
    for name, atlases in models.items():
        known = named(atlases["alone"])
        print(f"\n{name}: relation, pairs, fixed, in context (`alone`); * no head implements it")
        found: dict[str, list[str]] = {}
        for row in known_correlations(atlases["alone"]):
            if (row.side, row.tokens) == ("score", "one") and row.condition in CONDITIONS:
                cells = found.setdefault(row.relation, [str(row.pairs)])
                cells.append("-" if row.pearson is None else f"{row.pearson:.2f}")
        for relation, cells in found.items():
            print(f"{relation}{'' if relation in known else ' *'}: {', '.join(cells)}")


def draw_agreement(models: dict[str, dict[str, Atlas]]) -> AtlasFigure:
    """A row for each model; columns: either profile, attention fixed and in context; a point per relation and head."""
    palette = checked_palette("paper")
    with plain_style():
        figure = AtlasFigure((9.0, 0.6 + 2.3 * len(models)), {"Title": "Scores from weights and of the running model"})
        panels = figure.subplots(len(models), 4, squeeze=False, sharex=True, sharey=True)
        for row, (line, (name, atlases)) in enumerate(zip(panels, models.items(), strict=True)):
            places = [(condition, profile) for condition in CONDITIONS for profile in PROFILES]
            for axes, (condition, profile) in zip(line, places, strict=True):
                atlas = atlases[profile]
                table = running(atlases["alone"], condition).sample(frac=1, random_state=0)
                number = {str(each): place for place, each in enumerate(atlas.relations)}
                category = dict(zip(number, map(str, atlas.data["category"].values), strict=True))
                colours = palette.of_categories(tuple(dict.fromkeys(category.values())))
                x = atlas.share("score").values[
                    [number[each] for each in table["relation"]], table["layer"], table["head"]
                ]
                shades = [colours[category[each]] for each in table["relation"]]
                axes.scatter(x, table["score"], s=5, c=shades, alpha=0.55, linewidths=0, clip_on=False, zorder=3)
                axes.plot([0, 1], [0, 1], color="#c8c8c8", linewidth=0.7, zorder=1)
                axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
                axes.text(0.03, 0.97, f"mean r {mean(atlas, table).mean:.2f}", size=7.5, color=QUIET, va="top")
                style_plot(axes, 7, grid=None)
                if row == 0:
                    axes.set_title(f"{profile}\n{condition}", size=8.5, color=INK)
            line[0].set_ylabel(f"{name}\nrunning model", size=8, color=INK)
        for axes in panels[-1]:
            axes.set_xlabel("score from weights", size=8, color=INK)
        _legend(figure, colours)
    return figure


def without(points: list[RemovalPoint]) -> RemovalPoint | None:
    """The point with the most heads removed, up to REMOVED; None if none was."""
    return next((each for each in reversed(points) if 0 < each.removed <= REMOVED), None)


def removals(atlas: Atlas) -> dict[str, RemovalCurves]:
    """The curves of the relations that could be tested."""
    facts, table = atlas.manifest.evidence.ablation, atlas.evidence("ablation")
    assert facts is not None
    return {
        name: removal_curves(table, name) for name, found in facts.relations.items() if found.status is Status.TESTED
    }


def kinds_of(curves: RemovalCurves) -> dict[str, RemovalPoint | None]:
    """The points that the table and the picture show, in the order of KINDS."""
    controls, others = without(curves.controls), without(curves.controls_other)
    points = (curves.own[0], without(curves.own), without(curves.other), without(curves.random), controls, others)
    return dict(zip((*KINDS, "controls, maps"), points, strict=True))


def removal(models: dict[str, dict[str, Atlas]]) -> None:
    """Print accuracy, and log-probability, of each task without the REMOVED best heads of either profile."""
    for name, atlases in models.items():
        print(f"\n| {name} | {' | '.join(KINDS.values())} | other tasks, by maps |\n| --- |{' ---: |' * 6}")
        rows = []
        for relation, curves in removals(atlases["alone"]).items():
            points = kinds_of(curves)
            rows.append(points)
            cells = [
                "-" if each is None else f"{each.accuracy:.2f}, {each.log_probability:.2f}"
                + ("" if each.removed in (0, REMOVED) else f" ({each.removed})")
                for each in points.values()
            ]  # fmt: skip
            print(f"| `{relation}` | {' | '.join(cells)} |")
        means = [
            f"{np.mean([each.accuracy for each in column]):.2f}, "
            f"{np.mean([each.log_probability for each in column]):.2f}"
            for column in ([each[kind] or each["whole"] for each in rows] for kind in rows[0])
        ]
        print(f"| mean of {len(rows)} tasks | {' | '.join(means)} |")


def draw_removal(models: dict[str, dict[str, Atlas]]) -> AtlasFigure:
    """A panel for each model: the accuracy of each task without the REMOVED best heads of either profile."""
    found = {name: removals(atlases["alone"]) for name, atlases in models.items()}
    with plain_style():
        height = 1.1 + 0.36 * max(map(len, found.values()))
        figure = AtlasFigure((9.0, height), {"Title": f"Tasks without {REMOVED} heads"})
        for axes, (name, tasks) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
            for row, curves in enumerate(tasks.values()):
                points = {kind: each for kind, each in kinds_of(curves).items() if kind in KINDS and each is not None}
                axes.plot([0, 1], [row, row], color="#e6e6e6", linewidth=0.7, zorder=1)
                for kind, each in points.items():
                    place = row + 0.15 * (list(KINDS).index(kind) - 2)  # so that no point hides another
                    axes.scatter(each.accuracy, place, s=18, color=COLOURS[kind], zorder=3, clip_on=False)
            axes.set(xlim=(0, 1), ylim=(len(tasks) - 0.5, -0.5), yticks=range(len(tasks)), xticks=(0, 0.5, 1))
            axes.set_yticklabels([each.replace("_", " ") for each in tasks])
            axes.set_title(name, size=8.5, color=INK)
            axes.set_xlabel(f"accuracy without {REMOVED} heads", size=8, color=INK)
            style_plot(axes, 7, grid=None)
        _legend(figure, {KINDS[kind]: colour for kind, colour in COLOURS.items()})
    return figure


def _legend(figure: AtlasFigure, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], marker="o", linestyle="", markersize=5, color=colour) for colour in colours.values()]
    figure.legend(
        marks, list(colours), loc="outside lower center", ncols=len(colours), frameon=False, fontsize=8,
        labelcolor=INK,
    )  # fmt: skip


def save(figure: AtlasFigure, path: Path) -> None:
    """As a PNG of 256 colours, a third of the size."""
    from PIL import Image

    kept = io.BytesIO()
    figure.savefig(kept, format="png", dpi=150)
    Image.open(kept).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main(folder: Path, *given: str) -> None:
    models = {
        name: {"alone": headatlas.load_atlas(alone), "maps": headatlas.load_atlas(maps)}
        for name, alone, maps in zip(given[::3], given[1::3], given[2::3], strict=True)
    }
    agreement(models)
    ceiling(models)
    by_relation(models)
    removal(models)
    save(draw_agreement(models), folder / "agreement.png")
    save(draw_removal(models), folder / "removal.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
