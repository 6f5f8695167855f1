"""The command that lets a language model describe heads."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import AtlasFolder, JsonOption
from headatlas.cli.screen import Bar, print_json, print_message, print_note, show_table
from headatlas.printable import printable

if TYPE_CHECKING:
    from headatlas.atlas import Atlas
    from headatlas.measuring.describe import Cost
    from headatlas.measuring.progress import Stage

MOST_ROWS = 12
"""Heads that are shown; --json has all."""


@command("describe", resumes=True)
def describe_command(
    atlas: AtlasFolder,
    endpoint: Annotated[str, typer.Option(metavar="URL", help="OpenAI-compatible, such as https://host/v1.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="As the endpoint names it.")],
    heads: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these heads, such as L1H2,L3H4; default: all.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most heads, those with the highest scores first.")
    ] = None,
    parallel: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Requests at a time.")] = 4,
    seed: Annotated[int, typer.Option(metavar="N", help="Of what is shown and held out.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace sentences of another model, prompt or seed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a language model write a sentence about each head, and score it next to the rules' (sends data)."""
    from headatlas.atlas import load_atlas
    from headatlas.measuring.describe import describe_atlas

    stopped, bar, begun = False, Bar(), False
    with ExitStack() as stack:

        def confirm(cost: Cost) -> bool:
            nonlocal stopped, begun
            said = (
                f"To {cost.host} ({cost.model}): {cost.requests:,} requests about {cost.heads:,} heads; about "
                f"{cost.tokens_in:,} tokens sent and {cost.tokens_out:,} received (estimates; models that reason write "
                f"more). Finished before: {cost.kept:,} heads; with too few mappings: {cost.left_out:,}."
            )
            if yes:
                print_message(said)
            else:  # also if quiet: nobody agrees to what was not said
                stopped = not typer.confirm(f"{printable(said)}\nSend?", default=False, err=True)
            if not stopped:
                stack.enter_context(bar)
                begun = True
            return not stopped

        def show(stage: Stage, done: int, total: int) -> None:
            if begun:
                bar.show(stage, done, total)

        found = describe_atlas(
            load_atlas(atlas), endpoint=endpoint, model=model,
            heads=None if heads is None else [name.strip() for name in heads.split(",")],
            limit=limit, parallel=parallel, seed=seed, overwrite=overwrite, confirm=confirm, progress=show,
        )  # fmt: skip
    if stopped:
        print_message("Nothing was sent.")
        return
    _show(found, as_json)


def _show(found: Atlas, as_json: bool) -> None:
    from headatlas.analysis.written import CHANCE, best_first, read_written, summarise
    from headatlas.atlas import head_name
    from headatlas.reports.written import summary_sentence

    rows, facts = read_written(found), found.manifest.evidence.written
    assert rows is not None and facts is not None
    total = summarise(rows.values())
    if as_json:
        names = ("score", "rules", "difference")
        means = {name: dict(zip(("mean", "low", "high"), getattr(total, name), strict=True)) for name in names}
        counts = {"heads": total.heads, "questions": total.questions, "unanswered": total.unanswered}
        every = [{"name": head_name(*place)} | each.as_dict() for place, each in rows.items()]
        print_json({"model": facts.model, "chance": CHANCE} | counts | means | {"sentences": every})
        return
    cells = [
        [head_name(*at), f"{each.correct}/{each.questions}", f"{each.rules_correct}/{each.questions}", each.sentence]
        for at, each in best_first(rows)[:MOST_ROWS]
    ]
    show_table(f"Sentences of {facts.model}", ["head", "right", "rules", "sentence"], cells, (1, 2))
    print_note(summary_sentence(total))
