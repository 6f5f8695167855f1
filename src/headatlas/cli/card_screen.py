"""A head's card in a terminal, from 80 columns on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headatlas.printable import printable
from headatlas.relations import relation_title
from headatlas.reports.card import (
    NOT_MEASURED,
    agreement_of_words,
    counted,
    evidence_rows,
    feeds,
    interval,
    q_value,
    share,
    shown_relations,
    times,
    token_text,
    uncopied,
)
from headatlas.reports.written import written_line
from headatlas.settings import parse_threshold

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

WIDE = 100
"""Columns from which suppressed tokens are shown next to promoted ones."""

MOST_RELATIONS, MOST_OPERATIONS, MOST_EXAMPLES = 8, 12, 5
BAR = 12


def show_card(card: dict[str, Any], colours: dict[str, str], screen: Console) -> None:
    """Print a card.

    Args:
        card: from `Card.as_dict`.
        colours: of the categories.
    """
    from rich.padding import Padding
    from rich.text import Text

    screen.print(_title(card, colours))
    screen.print(_subtitle(card))
    screen.print()
    if "sentence" in card["shown"]:
        screen.print(Padding(_sentence(card), (0, 0, 0, 2)))
    if "description" in card["shown"]:
        screen.print(Padding(_description(card), (0, 0, 0, 2)))
    if "sentence" not in card["shown"] and card["missing"]:
        screen.print(Padding(Text(card["missing"]), (0, 0, 0, 2)))
    if card["written"] is not None:
        screen.print(Padding(_written(card), (0, 0, 0, 2)))
    screen.print(Padding(_feeds(card), (0, 0, 0, 2)))
    sections = (
        ("Words that it looks for, by its weights (× as much as others)", _words(card)),
        ("Relations", _relations(card, colours, screen.width)),
        ("Examples", _examples(card)),
        ("Tokens that it amplifies most, and what it maps them to", _salient(card, screen.width)),
        ("Related heads", _neighbours(card, colours)),
        ("The running model", _evidence(card)),
    )
    for title, body in sections:
        screen.print()
        screen.rule(f"[bold]{title}[/]", align="left", style="dim", characters="─")
        screen.print(Padding(body, (0, 0, 0, 2)))


def _title(card: dict[str, Any], colours: dict[str, str]) -> Text:
    from rich.text import Text

    title = Text.assemble((f" {card['name']} ", "bold reverse"), "  ")
    for name in card["categories"]:
        title.append(f"■ {printable(name)}  ", style=f"bold {colours[name]}")
    if not card["categories"]:
        suppressed = ", ".join(map(printable, card["suppressed_categories"]))
        title.append(f"suppresses {suppressed}" if suppressed else "no category", style="bold" if suppressed else "dim")
    return title


def _subtitle(card: dict[str, Any]) -> Text:
    from rich.text import Text

    why = f" ({card['validity']['why']})" if card["validity"]["why"] else ""
    parts = [
        card["model"]["name"],
        f"layer {card['layer']}",
        f"circuit {card['validity']['kind']}{why}",
        card["measure"],
    ]
    parts.append(card["label"] if card["rule"] == "plain" else f"{card['label']}; {card['rule']}")
    return Text(printable(" · ".join(parts)), style="dim")


def _description(card: dict[str, Any]) -> Text:
    from rich.text import Text

    description = card["description"]
    if description is None:
        return Text(f"What it does most: {NOT_MEASURED}.", style="dim")
    if description["rule"] == "unclear":
        return Text("No rule describes what it does most.", style="italic dim")
    text = Text(printable(description["description"]) + ".", style="italic")
    text.append(f"  confidence {description['confidence']:.2f}", style="dim not italic")
    return text


def _sentence(card: dict[str, Any]) -> Text:
    from rich.text import Text

    return Text(printable(card["sentence"]))


def _written(card: dict[str, Any]) -> Text:
    from rich.text import Text

    return Text(printable(f"By a language model: {written_line(card['written'])}"))


def _feeds(card: dict[str, Any]) -> Text:
    from rich.text import Text

    return Text(feeds(card), style="dim" if card["composition"] is None else "italic")


def _words(card: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    found = card["reading_words"]
    if found is None:
        return Text(f"{NOT_MEASURED}; `headatlas attention` measures it", style="dim")
    table = _grid(header=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column(overflow="fold", ratio=1)

    def add(who: Text, words: list[dict[str, Any]], certain: bool) -> None:
        each = [Text.assemble(token_text(word["token"]), (f" {times(word)}", "dim")) for word in words]
        table.add_row(who, Text("   ").join(each) if each else "none", style="" if certain else "dim")

    add(Text("whoever asks", style="dim"), found["keys"]["words"], found["keys"]["certain"])
    for each in found["pairs"]["queries"]:
        add(Text(token_text(each["token"]), style="bold"), each["looks_for"], found["pairs"]["certain"])
    return Group(table, Text(agreement_of_words(found), style="dim"))


def _relations(card: dict[str, Any], colours: dict[str, str], width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    shown = card["relations"][:MOST_RELATIONS]
    has_chance = any(each["score_chance"] is not None for each in shown)
    has_counts = any(each["hits"] is not None for each in shown)
    has_suppression = any(each["suppression"] is not None for each in shown)
    wide = width >= WIDE
    table = _grid(expand=False)
    table.add_column("relation", no_wrap=True, overflow="ellipsis", min_width=12)
    table.add_column("score", no_wrap=True, min_width=BAR + 5)
    if has_counts:
        table.add_column("hits", justify="right", no_wrap=True)
        table.add_column("95 %", justify="right", no_wrap=True)
    if has_chance:
        table.add_column("chance", justify="right", no_wrap=True)
        table.add_column("q", justify="right", no_wrap=True)
    has_copying = wide and any(each["score_copying"] is not None for each in shown)
    if has_copying:
        table.add_column("uncopied", justify="right", no_wrap=True)
    if has_suppression and (wide or not has_chance):
        table.add_column("suppr.", justify="right", no_wrap=True)
    for each in shown:
        colour = colours[each["category"]] if each["implements"] else "bright_black"
        name = Text.assemble(
            ("✓ " if each["implements"] else "  ", colour),
            (printable(relation_title(each["relation"])), "" if each["implements"] else "dim"),
        )
        cells: list[RenderableType] = [name, _bar(each["score"], each["score_chance"], colour)]
        if has_counts:
            cells += [counted(each["hits"], each["pairs"]), interval(each["score_interval"])]
        if has_chance:
            cells += [share(each["score_chance"]), q_value(each["score_q"])]
        if has_copying:
            cells.append(uncopied(each))
        if has_suppression and (wide or not has_chance):
            cells.append(share(each["suppression"]))
        table.add_row(*cells)
    n_more = len(card["relations"]) - len(shown)
    notes = [
        f"✓ implemented: above {card['threshold']}" + ", beyond chance and copying" * (card["rule"] == "calibrated")
    ]
    notes += [f"{n_more} more measured"] * (n_more > 0)
    missing = {"chance and q": has_chance, "hits and interval": has_counts, "suppression": has_suppression}
    notes += [f"{name}: {NOT_MEASURED}" for name, there in missing.items() if not there]
    if has_chance:
        notes.append("│ in a bar: chance")
    if has_copying:
        notes.append("uncopied: hits among the pairs that copying misses")
    return Group(table, Text(" · ".join(notes), style="dim"), *_suppressed(card))


def _suppressed(card: dict[str, Any]) -> list[Text]:
    """One line with the relations whose targets the head suppresses."""
    from rich.text import Text

    known = [each for each in card["relations"] if each["suppression"] is not None]
    strong = sorted(known, key=lambda each: -each["suppression"])
    named = [
        f"{relation_title(each['relation'])} {each['suppression']:.2f}"
        for each in strong
        if each["suppression"] > float(parse_threshold(card["threshold"]))
    ]
    return [Text(printable(f"suppresses: {', '.join(named[:4])}"))] if named else []


def _bar(value: float, chance: float | None, colour: str) -> Text:
    from rich.text import Text

    full = round(value * BAR)
    bar = Text("━" * full, style=colour) + Text("╌" * (BAR - full), style="bright_black")
    if chance is not None:
        at = min(BAR - 1, int(chance * BAR))
        bar = bar[:at] + Text("│", style="bold") + bar[at + 1 :]
    return bar + Text(f" {value:.2f}", style="bold" if colour != "bright_black" else "dim")


def _examples(card: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    table = _grid(header=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=26)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for each in shown_relations(card):
        examples = each["examples"]
        if examples is None:
            return Text(NOT_MEASURED, style="dim")
        first = True
        for name, mark, style in (
            ("hit", "hits", "green"),
            ("missed", "misses", "red"),
            ("suppressed", "suppr.", "magenta"),
        ):
            if examples[name]:
                pairs = ", ".join(_pair(*pair) for pair in examples[name][:MOST_EXAMPLES])
                table.add_row(
                    printable(relation_title(each["relation"])) if first else "", Text(mark, style=style), pairs
                )
                first = False
    return table if table.row_count else Text("none", style="dim")


def _pair(source: str, target: str) -> str:
    """A pair without spaces, so that no line ends within it."""
    return f"{printable(source)}→{printable(target)}"


def _salient(card: dict[str, Any], width: int) -> RenderableType:
    from rich.text import Text

    if card["salient"] is None:
        return Text(f"{NOT_MEASURED}; `headatlas salient` measures it", style="dim")
    if not card["salient"]:
        return Text("its output is zero", style="dim")
    table = _grid()
    table.add_column("token", no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column("×", justify="right", no_wrap=True, style="dim")
    table.add_column("promotes", no_wrap=True, overflow="ellipsis", ratio=1)
    if width >= WIDE:
        table.add_column("suppresses", no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    for each in card["salient"][:MOST_OPERATIONS]:
        cells = [
            Text(token_text(each["token"]), style="bold"),
            f"{each['amplification']:.1f}",
            _tokens(each["promoted"]),
        ]
        if width >= WIDE:
            cells.append(_tokens(each["suppressed"]))
        table.add_row(*cells)
    return table


def _tokens(tokens: list[str]) -> Text:
    from rich.text import Text

    return Text(" ").join(
        Text(token_text(token)) + Text(" ·" * (at + 1 < len(tokens)), style="bright_black")
        for at, token in enumerate(tokens)
    )


def _neighbours(card: dict[str, Any], colours: dict[str, str]) -> RenderableType:
    from rich.text import Text

    table = _grid(header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)

    def named(each: dict[str, Any], more: str = "") -> Text:
        swatches = Text.assemble(*(("■", colours[name]) for name in each["categories"]))
        style = "bold reverse" if each["name"] == card["name"] else ""
        return Text.assemble((each["name"], style), swatches, (more, "dim"))

    def joined(parts: list[Text]) -> Text:
        return Text("   ").join(parts) if parts else Text("none", style="dim")

    similar, group, layer = card["similar"], card["key_value_group"], card["layer_context"]
    nothing = Text(NOT_MEASURED, style="dim")
    alike = nothing if similar is None else joined([named(each, f"·{each['similarity']:.2f}") for each in similar])
    table.add_row("most alike", alike)
    shared = Text("not known", style="dim") if group is None else joined([named(each) for each in group["heads"]])
    table.add_row("same key-value head", shared)
    table.add_row(f"layer {card['layer']}", f"{layer['classified']} of {layer['n_heads']} heads have a category")
    if layer["n_heads"] <= 16:
        table.add_row("", joined([named(each) for each in layer["heads"]]))
    return table


def _evidence(card: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    table = _grid(header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for name, rows in evidence_rows(card).items():
        if rows is None:
            table.add_row(name, Text(NOT_MEASURED, style="dim"))
        elif not rows:
            table.add_row(name, Text("none for its relations", style="dim"))
        for at, row in enumerate(rows or ()):
            table.add_row(name if not at else "", printable(row))
    return table


def _grid(header: bool = True, expand: bool = True) -> Table:
    from rich.table import Table

    return Table(box=None, show_header=header, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False, expand=expand)
