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

ORDER = (
    "map", "explore", "head", "find", "prompt", "heads", "figure", "report", "compare", "audit", "attention",
    "composition", "validate", "ablate", "remove", "salient", "describe", "plan", "survey", "relations", "import",
    "export",
    "publish", "pull", "serve-mcp",
)  # fmt: skip
"""Commands as the help lists them: what people need first comes first."""

app.registered_commands.sort(key=lambda each: ORDER.index(str(each.name)))
