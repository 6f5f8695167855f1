"""The command line: parse, call, print. One file per group of commands."""

from headatlas.cli import comparing, explorer, measuring, relations, running, showing  # noqa: F401  (registering commands)
from headatlas.cli import cards, comparing, measuring, relations, showing  # noqa: F401  (each registers its commands)
from headatlas.cli.app import app, main

__all__ = ["app", "main"]
