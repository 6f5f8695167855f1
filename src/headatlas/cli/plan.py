"""The command that says what a map would take: plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.formats import format_bytes, format_duration
from headatlas.cli.options import PROFILES, AddRelations, JsonOption, Relations
from headatlas.cli.screen import console, print_json
from headatlas.settings import DEFAULT_PROFILE

if TYPE_CHECKING:
    from headatlas.measuring.plan import Plan


@command("plan")
def plan_command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="As for `headatlas map`; default: demo."),
    ] = None,
    relations: Relations = None,
    add_relations: AddRelations = None,
    profile: Annotated[str, typer.Option(metavar=PROFILES, help="As for `headatlas map`.")] = DEFAULT_PROFILE,
    adapter: Annotated[Path | None, typer.Option(metavar="PATH", help="LoRA adapter.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate what a map of a model would read and take, without reading weights."""
    from headatlas.measuring.plan import plan_map

    plan = plan_map(
        model,
        relations=relations or None,
        add_relations=add_relations or None,
        profile=profile,
        adapter=adapter,
        threads=threads,
    )
    if as_json:
        print_json(plan.as_dict())
    else:
        _show_plan(plan)


def _show_plan(plan: Plan) -> None:
    from rich.table import Table
    from rich.text import Text

    from headatlas.printable import printable
    from headatlas.reports.text import count, listed

    n_kv_heads = "" if plan.n_kv_heads in (None, plan.n_heads) else f", {count(plan.n_kv_heads, 'key-value head')}"
    alone = len(plan.validity) == 1
    validity = [
        each.kind + (f" ({each.why})" if each.why else "") + ("" if alone else f": {len(each.layers)} layers")
        for each in plan.validity
    ]
    kept, of = len(plan.measurable), len(plan.measurable) + len(plan.not_measurable)
    missing = f"; not: {listed(plan.not_measurable)}" if plan.not_measurable else ""
    inputs = f"{format_duration(plan.input_seconds)} for what the heads read, " if plan.input_seconds else ""
    if plan.compare_seconds:
        inputs = f"{format_duration(plan.compare_seconds)} to compare the input with the model's own layers, "
    everything = "; words pass through all layers" if plan.input_seconds else ""
    if plan.compare_seconds:
        everything = "; the comparison of the input reads all"
    rows = {
        "family": f"{plan.model_type}, read by "
        + ("its entry" if plan.read_by == "entry" else "its module structure, if the self-check agrees"),
        "heads": f"{plan.n_layers} layers x {plan.n_heads} heads{n_kv_heads}",
        "circuits": "\n".join(validity),
        "to read": f"{format_bytes(plan.to_read)} of {format_bytes(plan.size)} "
        f"({plan.to_read / max(plan.size, 1):.0%}){everything}",
        "memory": f"about {format_bytes(plan.memory)} (estimate)",
        "time": f"about {format_duration(plan.seconds)} for scores, {inputs}"
        f"{format_duration(plan.chance_seconds)} for chance levels and {format_duration(plan.salient_seconds)} for "
        "salient operations on this machine (estimates), plus the time for reading",
        "relations": f"{kept} of {of} measurable, {plan.n_pairs:,} pairs{missing}",
    }
    if plan.note:
        rows["weights"] = plan.note
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(printable(text)))
    screen = console()
    screen.print(Text(printable(plan.name), style="bold"), soft_wrap=True)
    screen.print(table)
