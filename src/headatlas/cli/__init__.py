"""The command line: parse, call, print. One file per group of commands."""

from headatlas.cli import comparing, measuring, relations, showing  # noqa: F401  (each registers its commands)
from headatlas.cli.app import app, main

__all__ = ["app", "main"]
