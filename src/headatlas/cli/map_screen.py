"""The end of `map`: the finding, a small map of layers x heads, the strongest heads, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.cli.screen import console
from headatlas.printable import printable
from headatlas.relations import relation_title

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.text import Text

    from headatlas.analysis.categories import Classification
    from headatlas.analysis.strong_heads import StrongHead
    from headatlas.atlas import Atlas
    from headatlas.figures.palettes import Palette

MOST_HEADS = 10
MOST_ROWS = 16
"""Rows of the small map; with more heads, a row is several of them."""

NONE, SUPPRESSES = "·", "s"


def map_facts(atlas: Atlas) -> dict[str, Any]:
    """What the screen says, as JSON types."""
    from dataclasses import asdict

    from headatlas.analysis.categories import classify
    from headatlas.analysis.strong_heads import strong_heads
    from headatlas.reports.headline import headline

    found = classify(atlas)
    return {
        "model": atlas.name,
        "folder": None if atlas.folder is None else str(atlas.folder),
        "n_layers": atlas.n_layers,
        "n_heads": atlas.n_heads,
        "measure": atlas.measure,
        "label": atlas.label,
        "rule": found.rule,
        "finding": headline(atlas),
        "classified": found.n_classified,
        "categories": {name: int(found.of(name).sum()) for name in found.categories},
        "not_measurable": list(found.unmeasured),
        "strongest": [{"name": each.name} | asdict(each) for each in strong_heads(atlas, MOST_HEADS)],
    }


def show_map(atlas: Atlas, folder: Path, table: bool = False) -> None:
    """Print the end of `map` and `import`.

    Args:
        table: the heads of each category and the strongest head of each relation too.
    """
    from rich.padding import Padding
    from rich.text import Text

    from headatlas.analysis.assumed_input import input_warning
    from headatlas.analysis.categories import classify
    from headatlas.analysis.strong_heads import only_suppressing, strong_heads
    from headatlas.figures.palettes import PALETTES
    from headatlas.measuring.output import PAGE
    from headatlas.reports.headline import headline

    screen, palette = console(), PALETTES["paper"]
    found, suppressing = classify(atlas), only_suppressing(atlas)
    screen.print()
    screen.print(Padding(Text(printable(" ".join(headline(atlas)))), (0, 2)))
    for note, style in ((atlas.manifest.model.note, "dim"), (input_warning(atlas), "bold")):
        if note:
            screen.print(Padding(Text(printable(str(note)), style=style), (0, 2)))
    screen.print()
    marks = _marks(found.categories)
    for line in _mini_map(found, suppressing, marks, palette, screen.width):
        screen.print(line, no_wrap=True, overflow="ignore", crop=False)
    screen.print(Padding(_legend(found, suppressing, marks, palette, screen.width - 4), (0, 2)))
    heads = strong_heads(atlas, MOST_HEADS) or strong_heads(atlas, MOST_HEADS, rule="plain")
    if heads:
        screen.print()
        _show_strongest(heads, palette.of_categories(found.categories), marks, screen)
    if table:
        _show_table(atlas, palette.of_categories((*found.categories, *found.unmeasured)))
    screen.print()
    strongest, quoted = heads[0].name if heads else "L0H0", shlex.quote(str(folder))
    lines = [
        ("  Open:  ", f"{folder / PAGE}", ""),
        ("  Next:  ", f"headatlas head {quoted} {strongest}", "its card" if heads else "a card"),
        ("         ", f"headatlas heads {quoted}", "all heads that implement a relation"),
    ]
    width = max(len(command) for _, command, _ in lines[1:])
    for name, command, what in lines:
        # A path is never broken: terminals make it a link, and people copy it.
        line = Text.assemble((name, "bold"), printable(command if not what else command.ljust(width)))
        line.append(f"   # {what}" if what else "", style="dim")
        screen.print(line, soft_wrap=True)


def _marks(categories: tuple[str, ...]) -> dict[str, str]:
    """A letter for each category, so that the map can be read without colours: its first that is not taken."""
    marks: dict[str, str] = {}
    for name in categories:
        letters = [each for each in printable(name).upper() if each.isalpha() and each.isascii()]
        free = [each for each in (*letters, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ") if each not in marks.values()]
        marks[name] = free[0] if free else "+"
    return marks


def _mini_map(
    found: Classification, suppressing: np.ndarray | None, marks: dict[str, str], palette: Palette, width: int
) -> list[Text]:
    """The lines of the map: layers from left to right, head 0 on top, an axis on two sides.

    A cell is one head; where the screen is too small, it is several heads, or layers, and shows what most of them do.
    """
    from rich.text import Text

    n_layers, n_heads = found.count.shape
    per_row, margin = -(-n_heads // MOST_ROWS), 9
    room = max(20, width - margin - 2)
    cell = 2 if 2 * n_layers <= room else 1
    per_column = 1 if n_layers <= room else -(-n_layers // room)
    columns = range(0, n_layers, per_column)
    lines = []
    for row, first in enumerate(range(0, n_heads, per_row)):
        line = Text(f"{'head' if not row else '':>6} {first:>2} ", style="dim")
        for layer in columns:
            places = [
                (at, head)
                for at in range(layer, min(layer + per_column, n_layers))
                for head in range(first, min(first + per_row, n_heads))
                if found.has_heads[at]
            ]
            text, style = _cell(found, suppressing, places, marks, palette)
            line.append(text.ljust(cell) if style.startswith("dim") else text.center(cell), style=style)
        lines.append(line)
    axis, at = Text(" " * margin, style="dim"), 0
    step = max(1, round(6 / cell * 2 / per_column)) if n_layers > 6 else 1
    for column, layer in enumerate(columns):
        if column % step == 0 and column * cell >= at:
            label = str(layer)
            axis.append(" " * (column * cell - at) + label)
            at = column * cell + len(label)
    axis.append("  layer")
    lines.append(axis)
    if per_row > 1 or per_column > 1:
        parts = [f"{per_row} heads"] * (per_row > 1) + [f"{per_column} layers"] * (per_column > 1)
        lines.append(Text(f"{' ' * margin}a cell is {' x '.join(parts)}", style="dim"))
    return lines


def _cell(
    found: Classification,
    suppressing: np.ndarray | None,
    places: list[tuple[int, int]],
    marks: dict[str, str],
    palette: Palette,
) -> tuple[str, str]:
    """Letter and style of what most heads of a cell do; heads without a function count only if there are no others."""
    from collections import Counter

    colours = palette.of_categories(found.categories)
    if not places:
        return " ", "dim"
    kinds: Counter[str] = Counter()
    for layer, head in places:
        own = [name for name in found.categories if found.of(name)[layer, head]]
        if own:
            kinds[own[0] if len(own) == 1 else str(len(own))] += 1
    if not kinds:
        if suppressing is not None and any(suppressing[place] for place in places):
            return SUPPRESSES, "dim"
        return NONE, "dim"
    (kind, _), *_ = kinds.most_common(1)
    several = kind not in colours
    colour = palette.of_count(int(kind)) if several else colours[kind]
    return (kind if several else marks[kind]), f"bold {_ink(colour)} on {colour}"


def _ink(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def _legend(
    found: Classification, suppressing: np.ndarray | None, marks: dict[str, str], palette: Palette, width: int
) -> Text:
    from rich.text import Text

    colours = palette.of_categories(found.categories)
    parts = []
    for name in found.categories:
        swatch = (f" {marks[name]} ", f"bold {_ink(colours[name])} on {colours[name]}")
        parts.append(Text.assemble(swatch, f" {printable(name)} {int(found.of(name).sum())}"))
    for several in range(2, int(found.count.max()) + 1):
        if heads := int((found.count == several).sum()):
            colour = palette.of_count(several)
            swatch = (f" {several} ", f"bold {_ink(colour)} on {colour}")
            parts.append(Text.assemble(swatch, f" {several} categories {heads}"))
    if suppressing is not None and suppressing.any():
        parts.append(Text(f"{SUPPRESSES} only suppresses {int(suppressing.sum())}", style="dim"))
    parts.append(Text(f"{NONE} none", style="dim"))
    lines = [Text()]
    for part in parts:
        # No line ends within an entry.
        if lines[-1].cell_len and lines[-1].cell_len + 3 + part.cell_len > width:
            lines.append(Text())
        lines[-1].append_text(Text.assemble("   " if lines[-1].cell_len else "", part))
    return Text("\n").join(lines)


def _show_strongest(heads: list[StrongHead], colours: dict[str, str], marks: dict[str, str], screen: Console) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False, width=min(screen.width - 4, 88))
    table.padding = (0, 2, 0, 0) if screen.width >= 90 else (0, 1, 0, 0)
    table.add_column("", no_wrap=True)
    table.add_column("maps", no_wrap=True)
    table.add_column("such as", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("pairs" if heads[0].best.hits is not None else "score", justify="right", no_wrap=True)
    by_chance = any(each.best.chance is not None for each in heads)
    if by_chance:
        table.add_column("chance", justify="right", no_wrap=True, style="dim")
    table.add_column("more", justify="right", no_wrap=True, style="dim")
    for each in heads:
        best = each.best
        name = Text(f"{each.name} ", style="bold")
        for category in each.categories:
            name.append(marks[category], style=f"bold {_ink(colours[category])} on {colours[category]}")
        example = "" if best.example is None else " → ".join(printable(word.strip()) for word in best.example)
        cells = [
            name,
            Text(printable(relation_title(best.relation))),
            Text(example, style="italic"),
            f"{best.score:.2f}" if best.hits is None else f"{best.hits}/{best.pairs}",
        ]
        cells += ["-" if best.chance is None else f"{best.chance:.1f}"] if by_chance else []
        table.add_row(*cells, f"+{each.more}" if each.more else "")
    screen.print(Padding(Text("The strongest heads, each with another relation", style="bold"), (0, 2)))
    screen.print(Padding(table, (0, 2)))


def _show_table(atlas: Atlas, colours: dict[str, str]) -> None:
    from headatlas.cli.screen import show_table
    from headatlas.reports.rows import category_rows, strongest_rows

    names = tuple(dict.fromkeys(item.category for item in atlas.manifest.relations.items))
    title = f"{atlas.name}: {atlas.n_layers} layers x {atlas.n_heads} heads ({atlas.measure}, {atlas.label})"
    console().print()
    show_table(title, ["category", "heads", "share", "this alone"], category_rows(atlas), (1, 2, 3), colours)
    ordered = sorted(strongest_rows(atlas), key=lambda row: (names.index(row[1]), -float(row[3] or -1)))
    rows = [[relation_title(name), *rest] for name, *rest in ordered]
    show_table("Strongest head of each relation", ["relation", "category", "head", "score"], rows, (3,), colours)
