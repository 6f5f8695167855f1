"""The application: registering commands, and errors as one sentence and an exit code."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import time
from typing import Annotated, Any

import typer

from headatlas._version import __version__
from headatlas.cli.help import Command, Group
from headatlas.cli.screen import ERROR, be_quiet, print_log, print_message
from headatlas.errors import HeadatlasError

app = typer.Typer(
    cls=Group,
    help="What every attention head of a language model does, from its weights alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False
log = logging.getLogger(__name__)

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Log what is done, with times, on standard error.")]
COMMON = {"quiet": Quiet, "verbose": Verbose}
"""Options of every command."""


def debugging() -> bool:
    """Whether errors show their traceback."""
    return _debug


def _set_up(quiet: bool, verbose: bool) -> None:
    """How much this command prints; the logger `headatlas` is left alone unless it is asked for."""
    be_quiet(quiet)
    logger = logging.getLogger("headatlas")
    for handler in [each for each in logger.handlers if isinstance(each, _Handler)]:
        logger.removeHandler(handler)
    if verbose:
        handler = _Handler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


class _Handler(logging.Handler):
    """Ours, so that a second command of the same process can replace it; above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print_log(self.format(record))


def _with_common(function: Any) -> tuple[inspect.Signature, dict[str, Any]]:
    """Signature and annotations of a command with the options of every command behind its own."""
    own = inspect.signature(function, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in COMMON.items()
    ]
    signature = own.replace(parameters=[*own.parameters.values(), *more])
    return signature, {name: each.annotation for name, each in signature.parameters.items()}


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
        @functools.wraps(function)
        def wrapped(*args: Any, quiet: bool = False, verbose: bool = False, **kwargs: Any) -> None:
            _set_up(quiet, verbose)
            started = time.perf_counter()
            log.info("headatlas %s: %s", __version__, name)
            try:
                function(*args, **kwargs)
                log.info("%s: done in %.1f s", name, time.perf_counter() - started)
            except KeyboardInterrupt:
                safe = " What is finished is safe: the same command continues where it stopped." if resumes else ""
                print_message(f"Interrupted.{safe}")
                raise typer.Exit(130) from None
            except HeadatlasError as error:
                if _debug:
                    raise
                print_message(f"Error: {error}", style=ERROR)
                raise typer.Exit(2) from None
            except MemoryError:
                if _debug:
                    raise
                print_message("Error: there is not enough memory for this model on this machine.", style=ERROR)
                raise typer.Exit(2) from None

        wrapped.__signature__, wrapped.__annotations__ = _with_common(function)  # type: ignore[attr-defined]
        app.command(name, cls=Command)(wrapped)
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
