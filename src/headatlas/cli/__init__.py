"""The command line: parse, call, print. One file per group of commands."""

from headatlas.cli import (  # noqa: F401
    attention,
    audit,
    compare,
    composition,
    describe,
    explore,
    figure,
    head,
    map,
    plan,
    prompt,
    relations,
    remove,
    results,
    running,
    serving,
    sharing,
    survey,
)
from headatlas.cli.app import app, main

__all__ = ["app", "main"]
