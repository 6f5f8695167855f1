"""The help of a command: every option with its choices, on lines as wide as the screen, up to 120 columns."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDEST = 120
MOST_CHOICES = 24
"""Columns up to which choices stand behind their option; longer ones are in the option's help."""

GROUPS = {
    "Make a map": ("map", "plan", "survey", "audit", "import", "relations", "salient"),
    "Look at it": ("explore", "head", "find", "heads", "figure", "report", "compare", "describe", "export"),
    "Run the model": ("attention", "composition", "prompt", "validate", "ablate", "remove"),
    "Share it": ("publish", "pull", "serve-mcp"),
}
"""Commands as the help lists them."""


class Command(TyperCommand):
    """A command whose help needs neither markup nor types."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        params: list[Any] = list(self.get_params(ctx))
        arguments = [each for each in params if each.param_type_name == "argument"]
        options = [each for each in params if each.param_type_name == "option" and not getattr(each, "hidden", False)]
        usage = f"{ctx.command_path} [OPTIONS] {' '.join(map(_argument, arguments))}"
        screen = _screen()
        with screen.capture() as captured:
            _head(screen, usage, self.help)
            _rows(screen, "Arguments", [(_argument(each), each.help or "") for each in arguments])
            _rows(screen, "Options", [_option(each) for each in options])
        formatter.write(captured.get())


class Group(TyperGroup):
    """The program, whose help lists the commands by what they are for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        options = [each for each in self.get_params(ctx) if not getattr(each, "hidden", False)]
        known = {name: command for name, command in self.commands.items() if not command.hidden}
        listed = {name for names in GROUPS.values() for name in names}
        rest = [name for name in known if name not in listed]
        screen = _screen()
        with screen.capture() as captured:
            _head(screen, f"{ctx.command_path} [OPTIONS] COMMAND ...", self.help)
            for title, names in (*GROUPS.items(), ("More", rest)):
                rows = [(name, _first_sentence(known[name].help)) for name in names if name in known]
                _rows(screen, title, rows, max(map(len, known)))
            _rows(screen, "Options", [_option(each) for each in options])
        formatter.write(captured.get())


def _screen() -> Console:
    from rich.console import Console

    width = min(shutil.get_terminal_size((80, 25)).columns, WIDEST)
    # Whoever prints the text removes the colours if it is not a terminal.
    return Console(width=max(width, 40), highlight=False, markup=False, force_terminal=True)


def _head(screen: Console, usage: str, text: str | None) -> None:
    from rich.text import Text

    screen.print(Text.assemble(("Usage: ", "bold"), usage.strip()), soft_wrap=True)
    if text:
        screen.print()
        screen.print(text.strip())


def _rows(screen: Console, title: str, rows: list[tuple[str, str]], column: int = 0) -> None:
    """Names with their help next to them, or, if a name is long, below it."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    most = 26 if screen.width < 100 else 40
    column = column or min(most, max(len(name) for name, _ in rows))
    screen.print()
    screen.print(Text(title, style="bold"))
    for name, text in rows:
        if len(name) > column:
            screen.print(Padding(_coloured(name), (0, 0, 0, 2)), soft_wrap=True)
            screen.print(Padding(text, (0, 0, 0, column + 4)))
            continue
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=column, no_wrap=True)
        table.add_column(ratio=1)
        table.add_row(_coloured(name), text)
        screen.print(Padding(table, (0, 0, 0, 2)))


def _coloured(name: str) -> Text:
    from rich.text import Text

    text = Text(name, style="cyan")
    if name.startswith("-") and " " in name.replace(", ", ","):
        text.stylize("yellow", name.rindex(" ", 0, len(name)))
    return text


def _argument(param: Any) -> str:
    name = (param.metavar or param.name.upper()).strip("[]")
    return name if param.required else f"[{name}]"


def _option(param: Any) -> tuple[str, str]:
    """An option's names with what it takes, and its help."""
    names = ", ".join(sorted(param.opts, key=len))
    if param.secondary_opts:
        names += f" / {param.secondary_opts[0]}"
    text, choices = (param.help or "").strip(), _choices(param)
    if not param.is_flag and not getattr(param, "count", False):
        listed = "|".join(choices)
        fits = listed and len(listed) <= MOST_CHOICES
        names += f" {listed if fits else param.metavar or _placeholder(param)}"
        if choices and not fits:
            text += f" One of {', '.join(choices)}."
    notes = []
    if param.required:
        notes.append("required")
    elif _has_default(param) and "default" not in text:
        notes.append(f"default: {getattr(param.default, 'value', param.default)}")
    return names, f"{text} [{'; '.join(notes)}]" if notes else text


def _has_default(param: Any) -> bool:
    return not param.is_flag and isinstance(param.default, str | int | float) and param.default not in ("", 0)


def _choices(param: Any) -> list[str]:
    """The values of an option that takes one of a few; typer has kept them in two places."""
    found: Any = getattr(getattr(param, "type_descriptor", None), "choices", None)
    found = found or getattr(getattr(param, "type", None), "choices", None) or ()
    return [str(getattr(each, "value", each)) for each in found]


def _placeholder(param: Any) -> str:
    number = getattr(getattr(param, "type_descriptor", None), "annotation", None) in (int, float)
    number = number or getattr(getattr(param, "type", None), "name", "").startswith(("integer", "float"))
    return "N" if number else (param.name or "VALUE").upper()


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
