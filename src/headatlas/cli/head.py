"""Commands about single heads: head, find."""

from __future__ import annotations

from typing import Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.completion import complete_head
from headatlas.cli.options import RULES, AdapterOption, JsonOption, ModelOption
from headatlas.cli.screen import Bar, console, print_json, print_message, show_table

MOST_PAIRS = 8
"""Pairs whose ranks are shown; --json prints all."""


@command("head")
def head_command(
    source: Annotated[str, typer.Argument(metavar="MODEL_OR_ATLAS", help="Atlas folder; or a model, mapped first.")],
    name: Annotated[
        str,
        typer.Argument(
            metavar="HEAD", autocompletion=complete_head, help="Such as L23H4: layer and head, counted from 0."
        ),
    ],
    rule: Annotated[
        str | None, typer.Option(metavar=RULES, help="What counts as implemented; default: the atlas's own.")
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: everything, for other programs.")] = False,
) -> None:
    """Show everything that is known about one head."""
    from headatlas.analysis.card import head_card
    from headatlas.errors import SettingsError
    from headatlas.measuring.head import atlas_for_head

    if as_markdown and as_json:
        raise SettingsError("markdown, json: expected one of the two, found both.")
    with Bar() as bar:
        atlas = atlas_for_head(source, name, bar.show)
    card = head_card(atlas, name, rule)
    if as_json:
        print_json(card.as_dict())
    elif as_markdown:
        from headatlas.reports.card import write_card

        typer.echo(write_card(card), nl=False)
    else:
        from headatlas.cli.card_screen import show_card
        from headatlas.figures import PALETTES

        names = tuple(dict.fromkeys(item.category for item in atlas.manifest.relations.items))
        show_card(card.as_dict(), PALETTES["paper"].of_categories(names), console())


@command("find")
def find_command(
    source: Annotated[str, typer.Argument(metavar="MODEL_OR_ATLAS", help="Atlas folder, or a model.")],
    pairs: Annotated[list[str], typer.Argument(metavar="PAIR...", help="Such as 'France->Paris'.")],
    model: ModelOption = None,
    adapter: AdapterOption = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="How many highest logits count; default: the atlas's.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many heads to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Rank the heads that map given words to given words."""
    from headatlas.measuring.find import find_heads, parse_pairs

    parse_pairs(pairs)
    with Bar() as bar:
        found = find_heads(source, pairs, model=model, adapter=adapter, k=k, progress=bar.show)
    for pair in found.left_out:
        print_message(f"Left out: {pair.source} -> {pair.target}: {pair.why}.", style="yellow")
    for target, token in found.first_tokens:
        print_message(f"{target} is several tokens here: ranked is its first, {token!r}.", style="yellow")
    for source, token in found.last_tokens:
        print_message(
            f"{source} is several tokens here: read at its last, {token!r}, behind the others.", style="yellow"
        )
    content = found.as_dict(top)
    if as_json:
        print_json(content)
        return
    rows = [
        [row["name"], f"{row['hits']} of {len(found.pairs)}", f"{row['median_rank']:,g}", _ranks(row["ranks"])]
        for row in content["heads"]
    ]
    title = f"{found.name}: {', '.join(f'{first} → {second}' for first, second in found.pairs[:MOST_PAIRS])}"
    title += f" and {len(found.pairs) - MOST_PAIRS} more" if len(found.pairs) > MOST_PAIRS else ""
    columns = ["head", f"among the {found.k} highest", "median rank", "rank of each target"]
    show_table(title, columns, rows, (1, 2))


def _ranks(ranks: list[int]) -> str:
    more = f" and {len(ranks) - MOST_PAIRS} more" if len(ranks) > MOST_PAIRS else ""
    return "  ".join(f"{rank:,}" for rank in ranks[:MOST_PAIRS]) + more
