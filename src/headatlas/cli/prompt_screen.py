"""A prompt's attribution on a terminal: the finding in sentences, the heads that stand out, the relations at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headatlas.analysis.attribution import mark, sentences_of, shown_checks, shown_words
from headatlas.figures import PALETTES
from headatlas.printable import printable
from headatlas.relations import relation_title
from headatlas.reports.card import token_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from headatlas.analysis.attribution import HeadAttribution, LogitAttribution

WIDE = 104
"""Columns from which on there is room for everything."""

MOST_RELATIONS = 6


def show_attribution(found: LogitAttribution, top: int, screen: Console) -> None:
    """Print the attribution; all of it is text of others, and is escaped."""
    from rich.text import Text

    screen.print(
        Text.assemble((printable(found.prompt), "bold"), (" → ", "dim"), (token_text(found.token.text), "bold reverse"))
    )
    screen.print(Text(printable(f"{found.model}, {found.rule} rule"), style="dim"), "")
    for sentence in sentences_of(found):
        screen.print(Text(sentence))
    screen.print()
    screen.print(_heads(found, top, screen.width))
    screen.print(_legend(found, screen.width), "")
    if found.relations:
        screen.print(_relations(found, screen.width))


def _heads(found: LogitAttribution, top: int, width: int) -> Any:
    from rich.text import Text

    heads, wide = found.strongest(top), width >= WIDE
    names = tuple(dict.fromkeys(name for each in heads for name in each.categories))
    colours = PALETTES["paper"].of_categories(names)
    removed = any(each.removal is not None for each in heads)
    table = _table()
    table.add_column("head", no_wrap=True)
    table.add_column("adds", justify="right", no_wrap=True)
    if found.n_controls:
        table.add_column("controls", justify="right", no_wrap=True)
    if removed:
        table.add_column("without", justify="right", no_wrap=True)
    table.add_column("looks at", no_wrap=True, overflow="ellipsis", max_width=20 if wide else 12)
    has_rank = wide or not removed
    if has_rank:
        table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("writes", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("its card", no_wrap=True, overflow="ellipsis", ratio=4)
    for each in heads:
        swatches = Text.assemble(*(("■", colours[name]) for name in each.categories))
        cells = [Text.assemble(each.name, swatches), _added(each)]
        if found.n_controls:
            assert each.controls is not None
            cells.append(Text(f"{each.controls[0]:+.2f} {each.controls[2]:+.2f}", style="dim"))
        if removed:
            cells.append(Text("" if each.removal is None else f"{-each.removal:+.2f}"))
        ((at, share),) = each.attended(1)
        looks = Text.assemble(f"{token_text(found.tokens[at])} ", (f"{share:.2f}"[1:] if share < 1 else "1", "dim"))
        raises, words = shown_words(each)
        text = " ".join(token_text(word) for word in words[: 5 if wide else 3])
        words_cell = Text(text) if raises else Text(f"− {text}", style="dim")
        table.add_row(*cells, looks, *([Text(f"{each.rank:,}")] * has_rank), words_cell, _card(each))
    return table


def _added(head: HeadAttribution) -> Text:
    from rich.text import Text

    style = "bold" if head.is_beyond else "" if head.is_beyond is None else "dim"
    return Text(f"{head.contribution:+.2f}", style=style)


def _card(head: HeadAttribution) -> Text:
    from rich.text import Text

    if not head.checks:
        return Text("names nothing" if head.behaviours is not None else "no relation", style="dim")
    parts = []
    for check in shown_checks(head)[:2]:
        style = {True: "green", False: "red", None: "dim"}[check.agrees]
        parts.append(
            Text.assemble((f"{mark(check.agrees)} ", style), (printable(check.title), "" if check.agrees else "dim"))
        )
    more = len(head.checks) - len(parts)
    return Text(" ").join([*parts, *([Text(f"+{more}", style="dim")] * (more > 0))])


def _legend(found: LogitAttribution, width: int) -> Text:
    from rich.text import Text

    token = token_text(found.token.text)
    over = "" if found.against is None else f" over that of {token_text(found.against)}"
    parts = [f"adds: to the logit of {token}{over}, directly"]
    if found.n_controls:
        parts.append("controls: lowest and highest on prompts of random tokens; bold: outside")
    parts.append(f"rank: of {token} in what the head writes" * (width >= WIDE or not found.random_removals))
    parts.append("−: words that it lowers")
    if found.random_removals:
        falls = [-fall for _, fall in found.random_removals]
        parts.append(
            f"without: change of the log-probability without the head; of {len(falls)} random heads "
            f"{min(falls):+.2f} to {max(falls):+.2f}"
        )
    parts.append("card: ✓ so here, ✗ not so, · not to be seen at this prompt")
    return Text(" · ".join(filter(None, parts)), style="dim")


def _relations(found: LogitAttribution, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    table = _table()
    table.add_column("relation", no_wrap=True, overflow="ellipsis")
    table.add_column("pair here", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("its heads that look there", justify="right", no_wrap=width >= WIDE)
    table.add_column("write it", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("others", justify="right", no_wrap=True)
    for each in found.relations[:MOST_RELATIONS]:
        pair = f"{printable(each.source)} → {', '.join(map(printable, each.targets))}"
        hits = f"{len(each.hits)}" + (f": {', '.join(each.hits)}" if each.hits else "")
        table.add_row(
            printable(relation_title(each.relation)),
            pair,
            str(len(each.heads)),
            hits,
            f"{each.other_hits} of {each.others}",
        )
    more = len(found.relations) - MOST_RELATIONS
    note = "others: heads that look there and do not implement the relation, how many of them write the target"
    note += f" · {more} more in --json" if more > 0 else ""
    return Group(Text("Relations that the prompt shows", style="bold"), table, Text(note, style="dim"))


def _table() -> Any:
    from rich.table import Table

    return Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False, expand=True)
