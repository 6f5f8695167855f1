"""How every command prints: messages, tables, JSON, and the progress bar of long work."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from headatlas.cli.formats import format_bytes, format_clock

if TYPE_CHECKING:
    from rich.console import Console

    from headatlas.measuring.progress import Stage


log = logging.getLogger(__name__)

ERROR = "bold red"
"""The style of messages that are printed even if quiet."""

WORKING = "working"
"""What the spinner says where nothing can be counted: a model is opened, a next stage begins, files are written."""


_quiet = False
_bar: Bar | None = None


def be_quiet(quiet: bool) -> None:
    """Whether only results and errors are printed: no messages, no progress."""
    global _quiet
    _quiet = quiet


def print_log(text: str) -> None:
    """Print a line of the log on standard error, above a progress bar if there is one."""
    from rich.text import Text

    from headatlas.printable import printable

    screen = console(stderr=True) if _bar is None else _bar.console
    screen.print(Text(printable(text), style="dim"), soft_wrap=True)


class Bar:
    """A progress bar on standard error: what is done, the rate, the time taken and the time left.

    Where nothing can be counted, a spinner instead.
    """

    def __enter__(self) -> Bar:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
        )
        from rich.text import Text

        class Amount(BarColumn):
            def render(self, task):
                return super().render(task) if task.total is not None else Text("")

        class Spinner(SpinnerColumn):
            def render(self, task):
                return super().render(task) if task.total is None else Text(" ")

        class Done(MofNCompleteColumn):
            def render(self, task) -> Text:
                if task.total is None:
                    return Text("")
                if task.description != "bytes":
                    return super().render(task)
                return Text(
                    f"{format_bytes(int(task.completed))} of {format_bytes(int(task.total))}", style="progress.download"
                )

        class Rate(ProgressColumn):
            def render(self, task) -> Text:
                speed = task.speed or 0
                rate = format_bytes(int(speed)) if task.description == "bytes" else f"{speed:.1f}"
                return Text(f"{rate}/s" if speed else "", style="dim")

        class Times(ProgressColumn):
            def render(self, task) -> Text:
                left = (
                    ""
                    if task.time_remaining is None or task.finished
                    else f", {format_clock(task.time_remaining)} left"
                )
                return Text(format_clock(task.elapsed or 0) + left, style="progress.elapsed")

        self._progress = Progress(
            Spinner(),
            TextColumn("{task.description}"),
            Amount(),
            Done(),
            Rate(),
            Times(),
            console=console(stderr=True),
            disable=_quiet,
        )
        global _bar
        _bar, self.console = self, self._progress.console
        self._stages: dict[str, float] = {}
        self._progress.start()
        self._tasks: dict[str, Any] = {WORKING: self._progress.add_task(WORKING, total=None)}
        return self

    def show(self, stage: Stage, done: int, total: int) -> None:
        """Show how far a stage is; the bar of an earlier stage disappears, except that of the models."""
        from headatlas.measuring.progress import Stage

        if stage is Stage.MODELS:
            # The bars of the next model start again.
            for earlier in set(self._tasks) - {Stage.MODELS.value, WORKING}:
                self._progress.remove_task(self._tasks.pop(earlier))
        name = stage.value
        self._log(name, done, total)
        if name not in self._tasks:
            for shown, earlier in self._tasks.items():
                self._progress.update(earlier, visible=shown == Stage.MODELS.value)
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done)
        # What follows a finished stage may be one that counts nothing.
        self._progress.update(self._tasks[WORKING], visible=done >= total)

    def _log(self, name: str, done: int, total: int) -> None:
        if name not in self._stages:
            self._stages[name] = time.perf_counter()
            log.info("%s: %s in all", name, f"{total:,}")
        if done >= total:
            log.info("%s: all done after %.1f s", name, time.perf_counter() - self._stages.pop(name))
        else:
            log.debug("%s: %s of %s", name, f"{done:,}", f"{total:,}")

    def __exit__(self, *_: object) -> None:
        global _bar
        _bar = None
        self._progress.update(self._tasks[WORKING], visible=False)
        self._progress.stop()


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_message(text: str, style: str | None = None) -> None:
    """Print one line for people, on standard error; if quiet, only an error, which has a style of its own."""
    from rich.text import Text

    from headatlas.printable import printable

    if not _quiet or style == ERROR:
        console(stderr=True).print(Text(printable(text), style=style or ""), soft_wrap=True)


def print_note(text: str) -> None:
    """Print what explains a result, on lines as wide as the screen."""
    from rich.text import Text

    from headatlas.printable import printable

    console().print(Text(printable(text), style="dim"), "")


def print_words(text: str) -> None:
    """Print what a result says in words, on lines as wide as the screen."""
    from rich.text import Text

    from headatlas.printable import printable

    console().print(Text(printable(text), style="bold"), "")


def print_or_write(text: str, output: Path | None) -> None:
    """Print a result, or write it to a file."""
    from headatlas.atomic import write_atomically
    from headatlas.errors import AtlasError

    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    try:
        write_atomically(output, lambda path: path.write_text(text, "utf-8"))
    except OSError as error:
        raise AtlasError(f"{output}: cannot be written ({error.strerror or error}).") from error
    print_message(f"Wrote {output}")


def show_markdown(text: str) -> None:
    """Print Markdown as headings, lists and tables; the text is escaped already, see `headatlas.reports.markdown`."""
    from rich.markdown import Markdown

    console().print(Markdown(text, hyperlinks=False))


def print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1))


def show_table(
    title: str, columns: list[str], rows: list[list[str]], right: tuple[int, ...], colours: dict[str, str] | None = None
) -> None:
    """Print a table; cells that are keys of `colours` get a swatch, rows with an empty last cell are dimmed."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from headatlas.printable import printable

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        # A relation's name is what people copy: it is never broken.
        table.add_column(column, justify="right" if number in right else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        cells = []
        for cell in row:
            swatch = Text("■ ", style=colours[cell]) if colours and cell in colours else ""
            cells.append(Text.assemble(swatch, printable(cell)))
        table.add_row(*cells, style="" if row[-1] else "dim")
    screen = console()
    screen.print(Text(printable(title), style="bold"), soft_wrap=True)
    screen.print(table)
    screen.print()
