"""The application: registering commands, and errors as one sentence and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from typing import Annotated, Any

import typer

from headatlas._version import __version__
from headatlas.cli.screen import print_message
from headatlas.errors import HeadatlasError

app = typer.Typer(
    help="What every attention head of a language model does, from its weights alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False


def debugging() -> bool:
    """Whether errors show their traceback."""
    return _debug


def main() -> None:
    """Entry point of the `headatlas` command."""
    # Read when torch is imported. The forward pass and the search share the cores: a thread that waits for its
    # neighbours by spinning, as by default, takes processor time from the threads that it waits for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A pipe that closes early, as with `| head`, is no error.
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def command(name: str, resumes: bool = False):
    """Register a command whose errors become one sentence and an exit code.

    Args:
        resumes: after an interruption the same command continues where it stopped.
    """

    def register(function):
        @app.command(name)
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                safe = " What is finished is safe: the same command continues where it stopped." if resumes else ""
                print_message(f"Interrupted.{safe}")
                raise typer.Exit(130) from None
            except HeadatlasError as error:
                if _debug:
                    raise
                print_message(f"Error: {error}", style="bold red")
                raise typer.Exit(2) from None
            except MemoryError:
                if _debug:
                    raise
                print_message("Error: there is not enough memory for this model on this machine.", style="bold red")
                raise typer.Exit(2) from None

        return wrapped

    return register


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headatlas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
