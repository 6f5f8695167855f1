"""Commands that run the model of an atlas: validate, ablate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.formats import format_correlation
from headatlas.cli.options import (
    AdapterOption,
    AddRelations,
    AtlasFolder,
    DeviceOption,
    JsonOption,
    ModelOption,
    Side,
    ThreadsOption,
)
from headatlas.cli.screen import Bar, print_json, print_message, show_table

if TYPE_CHECKING:
    from headatlas.atlas.evidence import Ablation, Correlation

SeedOption = Annotated[int, typer.Option(help="Of all random choices.")]

SOURCES = {"one": "sources of one token", "several": "sources of several tokens (against the score of one)"}


@command("validate", resumes=True)
def validate_command(
    atlas: AtlasFolder,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    relation: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this relation; repeatable.")] = None,
    add_relations: AddRelations = None,
    templates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts of your own (TOML) instead of the package's.")
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=2, help="Most pairs of a relation, for sources of one and of several tokens each.")
    ] = 40,
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
            seed=seed,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    facts = loaded.manifest.evidence.validation
    assert facts is not None
    if as_json:
        means = [asdict(mean) for mean in mean_over_relations(known_correlations(loaded))]
        print_json(write_facts(facts) | {"mean_over_relations": means})
        return
    _show_validation(known_correlations(loaded), side.value)
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
    from headatlas.analysis.correlations import ALL, mean_over_relations
    from headatlas.atlas.evidence import CONDITIONS

    coefficients = ("pearson", "spearman")
    heading = [f"{condition}\n{name.title()}" for condition in CONDITIONS for name in coefficients]
    for tokens, title in SOURCES.items():
        lines = []
        here = [row for row in rows if (row.tokens, row.side) == (tokens, side) and row.relation != ALL]
        for name in dict.fromkeys(row.relation for row in here):
            of_name = {row.condition: row for row in here if row.relation == name}
            cells = [
                format_correlation(getattr(of_name[condition], each))
                for condition in CONDITIONS
                for each in coefficients
            ]
            lines.append([name, str(of_name[CONDITIONS[0]].pairs), *cells])
        if lines:
            show_table(f"Correlation of the {side} over heads, {title}", ["relation", "pairs", *heading], lines,
                       right=(1, 2, 3, 4, 5))  # fmt: skip
    lines = []
    pooled = [row for row in rows if row.relation == ALL]
    for name, summary in (("mean over relations", mean_over_relations(rows)), ("all points together", pooled)):
        found = {(row.side, row.tokens, row.condition): row for row in summary}
        for side, tokens in dict.fromkeys(key[:2] for key in found):
            cells = [
                format_correlation(getattr(found[side, tokens, each], c)) for each in CONDITIONS for c in coefficients
            ]
            lines.append([name, side, tokens, *cells])
    show_table("In all", ["", "", "source tokens", *heading], lines, right=(3, 4, 5, 6))


@command("ablate", resumes=True)
def ablate_command(
    atlas: AtlasFolder,
    relation: Annotated[list[str], typer.Option(metavar="NAME", help="Remove the heads of this relation; repeatable.")],
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
    from headatlas.analysis.ablation import BY_SCORE, is_random_order
    from headatlas.atlas.evidence import Status
    from headatlas.atlas.statistics import wilson_interval
    from headatlas.measuring.ablate import MIN_BASE, file_name

    name = found.relation
    n = int(curve["prompts"].iloc[0])
    if found.status is not Status.TESTED:
        why = {
            Status.NOT_TESTABLE: f"the model solves {found.base:.0%} of {n} prompts, less than {MIN_BASE:.0%}",
            Status.NO_HEADS: "no head's score is above the threshold",
        }
        print_message(f"{name}: {found.status}; {why[found.status]}.")
        return
    shares = (curve["correct"] / curve["prompts"]).groupby([curve["task"], curve["order"], curve["removed"]]).first()
    tasks = [name, *(control.task for control in found.controls)]
    rows = []
    for removed in sorted(set(curve["removed"])):
        own = shares.get((name, BY_SCORE, removed))
        low, high = wilson_interval(own, n)
        draws = [
            share
            for (task, order, at), share in shares.items()
            if task == name and is_random_order(order) and at == removed
        ]
        cells = [f"{own:.2f}", f"{low:.2f}-{high:.2f}"]
        cells += [f"{sum(draws) / len(draws):.2f}", f"{min(draws):.2f}-{max(draws):.2f}"] if draws else ["-", "-"]
        cells += [f"{shares[task, BY_SCORE, removed]:.2f}" for task in tasks[1:]]
        rows.append([str(removed), *cells])
    title = f"{name}: share of {n} prompts answered correctly, by number of heads removed"
    columns = ["removed", "by score", "95 %", "random", "range", *tasks[1:]]
    show_table(title, columns, rows, right=tuple(range(len(columns))))
    print_message(f"Heads, the strongest first: {', '.join(found.heads)}")
    if len(tasks) == 1:
        print_message("No other task has little overlap and a similar base accuracy.")
    print_message(f"Picture: {folder / f'ablation-{file_name(name)}.png'} ({found.seconds:.0f} s)")
