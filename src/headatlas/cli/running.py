"""Commands that run the model of an atlas: validate, ablate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.completion import complete_relation
from headatlas.cli.formats import format_correlation
from headatlas.cli.options import (
    AdapterOption,
    AddRelations,
    AtlasFolder,
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    Side,
    ThreadsOption,
)
from headatlas.cli.screen import Bar, print_json, print_message, print_words, show_table

if TYPE_CHECKING:
    from headatlas.analysis.ablation import RemovalPoint
    from headatlas.analysis.correlations import Mean
    from headatlas.atlas.evidence import Ablation, Correlation

SOURCES = {"one": "sources of one token", "several": "sources of several tokens (against the score of one)"}


@command("validate", resumes=True)
def validate_command(
    atlas: AtlasFolder,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    relation: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", autocompletion=complete_relation, help="Only this relation; repeatable."),
    ] = None,
    add_relations: AddRelations = None,
    templates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts of your own (TOML) instead of the package's.")
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=2, help="Most pairs of a relation, for sources of one and of several tokens each.")
    ] = 40,
    effects: Annotated[
        int, typer.Option(metavar="N", min=0, help="Pairs of a relation whose total effects are measured too; slow.")
    ] = 0,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    side: Annotated[Side, typer.Option(help="Of the table by relation; both are measured.")] = Side.score,
    as_json: JsonOption = False,
) -> None:
    """Compare the map with what the heads of the running model write."""
    from headatlas.analysis.correlations import known_correlations, mean_over_relations
    from headatlas.atlas import load_atlas
    from headatlas.atlas.json_facts import write_facts
    from headatlas.measuring.validate import validate_atlas
    from headatlas.reports.running import agreement_in_words

    loaded = load_atlas(atlas)
    with Bar() as bar:
        loaded = validate_atlas(
            loaded,
            model=model,
            adapter=adapter,
            relations=relation or None,
            add_relations=add_relations or None,
            templates=templates,
            pairs=pairs,
            effects=effects,
            seed=seed,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    facts = loaded.manifest.evidence.validation
    assert facts is not None
    words = agreement_in_words(loaded, side.value)
    if as_json:
        means = [asdict(mean) for mean in mean_over_relations(known_correlations(loaded, None))]
        print_json(write_facts(facts) | {"mean_over_relations": means, "in_words": words})
        return
    if words is not None:
        print_words(words)
    _show_validation(known_correlations(loaded, None), side.value)
    if facts.left_out:
        print_message(
            f"Left out, because their pairs are not available: {', '.join(facts.left_out)}. Name their files with "
            f"--add-relations."
        )
    dropped = sum(group.left_out for group in facts.groups)
    if dropped:
        print_message(f"Left out, because their words are tokenised differently in the texts: {dropped} pairs.")
    print_message(f"{facts.prompts} texts of {len(facts.templates)} templates, {facts.seconds:.0f} s.")
    print_message(f"Picture: {atlas / 'validation.png'}")


def _show_validation(rows: list[Correlation], side: str) -> None:
    from headatlas.analysis.correlations import ALL
    from headatlas.atlas.evidence import CONDITIONS, TOTAL_EFFECT

    coefficients = ("pearson", "spearman")
    heading = [f"{_in_lines(condition)}\n{name.title()}" for condition in CONDITIONS for name in coefficients]
    for tokens, title in SOURCES.items():
        lines = []
        here = [
            row for row in rows if (row.tokens, row.side, row.counted) == (tokens, side, "own") and row.relation != ALL
        ]
        for name in dict.fromkeys(row.relation for row in here):
            of_name = {row.condition: row for row in here if row.relation == name}
            cells = [
                format_correlation(getattr(of_name[condition], each))
                for condition in CONDITIONS
                for each in coefficients
            ]
            if any(row.condition == TOTAL_EFFECT for row in here):
                effect = of_name.get(TOTAL_EFFECT)
                cells.append(format_correlation(None if effect is None else effect.pearson))
            lines.append([name, str(of_name[CONDITIONS[0]].pairs), *cells])
        if lines:
            titles = ["relation", "pairs", *heading, f"{_in_lines(TOTAL_EFFECT)}\nPearson"][: len(lines[0])]
            show_table(
                f"Correlation of the {side} over heads, {title}", titles, lines, right=tuple(range(1, len(titles)))
            )
    _show_means(rows, side)


def _in_lines(condition: str) -> str:
    """A condition's name in two lines, so that a narrow column does not break it elsewhere."""
    return condition.replace("-", "-\n", 1)


def _show_means(rows: list[Correlation], side: str) -> None:
    """Means over relations, with intervals, for all terms that were counted; `--json` has all points together too."""
    from headatlas.analysis.correlations import mean_over_relations
    from headatlas.atlas.evidence import CONDITIONS, TOTAL_EFFECT

    means = {
        (each.tokens, each.counted, each.condition): each for each in mean_over_relations(rows) if each.side == side
    }
    for tokens, title in SOURCES.items():
        conditions = [each for each in (*CONDITIONS, TOTAL_EFFECT) if any(key[::2] == (tokens, each) for key in means)]
        lines = [
            [f"{name}, {TERMS[counted]}", *(format_mean(getattr(found, statistic)) for found in of_terms)]
            for statistic, name in STATISTICS.items()
            for counted in dict.fromkeys(key[1] for key in means if key[0] == tokens)
            if all(of_terms := [means.get((tokens, counted, condition)) for condition in conditions])
        ]
        if lines:
            show_table(
                f"Mean over relations of the {side}'s correlation, {title}, with 95 % bootstrap intervals",
                ["coefficient, terms", *conditions],
                lines,
                right=tuple(range(1, len(conditions) + 1)),
            )


STATISTICS = {"pearson": "Pearson", "pooled": "Pearson pooled", "spearman": "Spearman"}
"""Texts are averaged first, or, pooled, each text is a point of its own."""

TERMS = {"own": "as scored", "none": "none", "all": "all"}


def format_mean(found: Mean | None) -> str:
    if found is None:
        return format_correlation(None)
    text = format_correlation(found.mean)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{format_correlation(found.low)},{format_correlation(found.high)}]"


@command("ablate", resumes=True)
def ablate_command(
    atlas: AtlasFolder,
    relation: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", autocompletion=complete_relation, help="Remove the heads of this relation; repeatable."
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(metavar="ATLAS", help="Compare with the order of another atlas of the same model."),
    ] = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    add_relations: AddRelations = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prompts of your own (TOML) instead of the package's.")
    ] = None,
    n_prompts: Annotated[int, typer.Option(metavar="N", min=10, help="Most prompts of a task.")] = 40,
    heads: Annotated[int, typer.Option(metavar="N", min=1, help="Most heads to remove.")] = 64,
    controls: Annotated[int, typer.Option(metavar="N", min=0, help="Most other tasks for comparison.")] = 3,
    mean: Annotated[
        bool, typer.Option("--mean", help="Replace a head by its mean over prompts of other relations, not by zeros.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a relation's heads from the running model and measure what it can no longer do."""
    from headatlas.atlas import load_atlas, records
    from headatlas.measuring.ablate import ablate_heads

    loaded = load_atlas(atlas)
    with Bar() as bar:
        loaded, found = ablate_heads(
            loaded,
            relation,
            against=None if against is None else load_atlas(against),
            model=model,
            adapter=adapter,
            add_relations=add_relations or None,
            prompts=prompts,
            n_prompts=n_prompts,
            n_heads=heads,
            controls=controls,
            mean=mean,
            seed=seed,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    table: Any = loaded.evidence("ablation")
    curves = {each.relation: table[table["relation"] == each.relation] for each in found}
    if as_json:
        from headatlas.atlas.json_facts import write_facts

        print_json([write_facts(each) | {"curve": records(curves[each.relation])} for each in found])
        return
    for each in found:
        _show_ablation(each, curves[each.relation], atlas)


def _show_ablation(found: Ablation, curve: Any, folder: Path) -> None:
    from headatlas.analysis.ablation import removal_curves
    from headatlas.atlas.evidence import Status
    from headatlas.measuring.ablate import MIN_BASE
    from headatlas.measuring.output import ablation_picture

    name = found.relation
    n = int(curve["prompts"].iloc[0])
    if found.status is not Status.TESTED:
        why = {
            Status.NOT_TESTABLE: f"the model solves {found.base:.0%} of {n} prompts, less than {MIN_BASE:.0%}",
            Status.NO_HEADS: "no head's score is above the threshold",
        }
        print_message(f"{name}: {found.status}; {why[found.status]}.")
        return
    points = removal_curves(curve, name)
    against = found.against
    kinds = [("by score" if against is None else against.own_label, points.own)]
    if against is not None:
        kinds.append((against.label, points.other))
    kinds.append(("random", points.random))
    columns, cells = ["removed"], []
    for label, of in kinds:
        columns += [f"{label}\naccuracy", f"{label}\n{'range' if label == 'random' else '95 %'}", f"{label}\nlog p"]
        cells.append({each.removed: _removal_cells(each, n, label == "random") for each in of})
    for label, of in ((kinds[0][0], points.controls), (kinds[1][0], points.controls_other)):
        if of:
            columns.append(f"other tasks\n{label}")
            cells.append({each.removed: [f"{each.accuracy:.2f}"] for each in of})
    widths = [len(next(iter(of.values()), [""])) for of in cells]
    rows = [
        [
            str(removed),
            *(cell for of, width in zip(cells, widths, strict=True) for cell in of.get(removed, ["-"] * width)),
        ]
        for removed in sorted(set(curve["removed"]))
    ]
    title = f"{name}: share of {n} prompts answered correctly, and mean log-probability, by number of heads removed"
    show_table(title, columns, rows, right=tuple(range(len(columns))))
    if against is None:
        print_message(f"Heads, the strongest first: {', '.join(found.heads)}")
    else:
        print_message(f"Heads of {against.own_label}, the strongest first: {', '.join(found.heads)}")
        print_message(f"Heads of {against.label} ({against.name}): {', '.join(against.heads) or 'none'}")
    if found.controls:
        names = [f"{each.task} ({each.overlap:.0%} of the heads in common)" for each in found.controls]
        print_message(f"Other tasks: {', '.join(names)}")
    else:
        print_message("No other task has little overlap and a similar base accuracy.")
    print_message(f"Picture: {folder / f'{ablation_picture(name)}.png'} ({found.seconds:.0f} s)")


def _removal_cells(point: RemovalPoint, prompts: int, draws: bool) -> list[str]:
    from headatlas.atlas.statistics import wilson_interval

    low, high = (point.lowest, point.highest) if draws else wilson_interval(point.accuracy, prompts)
    return [f"{point.accuracy:.2f}", f"{low:.2f}-{high:.2f}", f"{point.log_probability:.2f}"]
