"""The server of the Model Context Protocol: what `answers` can say, as read-only tools and resources.

Needs the package `mcp`, whose schemas are made from the annotations below; import this module only to serve.
"""

import functools
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from headatlas._version import __version__
from headatlas.errors import HeadatlasError
from headatlas.printable import printable
from headatlas.sharing.answers import MOST_TEXT, NOTICE, Answers

INSTRUCTIONS = (
    "headatlas: what every attention head of a language model does. A head is named L5H3 (layer and head, counted from "
    "0). A score is the share (0 to 1) of a relation's word pairs whose target is among the k highest logits of the "
    "head; each has a chance level, and says whether copying the word explains it. Scores show a capability, not a "
    "role in the running model. " + NOTICE
)

Side = Literal["score", "suppression"]
Rule = Literal["plain", "calibrated"]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Which = Annotated[str | None, Field(max_length=MOST_TEXT, description="Which atlas; not needed if there is one.")]
HeadName = Annotated[str, Field(pattern=r"^[Ll]\d{1,6}[Hh]\d{1,6}$", description="Of the head, such as L23H4.")]
Share = Annotated[float, Field(ge=0, lt=1, description="A head counts strictly above this.")]
Rows = Annotated[int, Field(ge=1, le=200, description="Most rows of the answer.")]
Pairs = Annotated[list[Text], Field(min_length=1, max_length=50, description="Such as 'France->Paris'.")]
K = Annotated[int, Field(ge=1, le=100_000, description="How many highest logits count.")]


def build_server(answers: Answers) -> MCPServer:
    """The server of some atlases."""
    server = MCPServer(
        "headatlas", title="headatlas", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING",
        subscriptions=False,
    )  # fmt: skip

    def tool(title: str) -> Callable[[Callable[..., Any]], Any]:
        """Register a tool whose errors are the same sentences as on the command line."""
        hints = ToolAnnotations(
            title=title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        )

        def register(function: Callable[..., Any]) -> Any:
            return server.tool(title=title, annotations=hints)(_guarded(function, ToolError))

        return register

    @tool("Heads of a relation or category")
    def heads(
        atlas: Which = None,
        relation: Text | None = None,
        category: Text | None = None,
        reads: Text | None = None,
        min_score: Share | None = None,
        side: Side = "score",
        rule: Rule | None = None,
        limit: Rows = 20,
    ) -> dict[str, Any]:
        """The heads that implement a relation or a category, or that look at something (reads: previous, induction,
        duplicate, self, sink, local, delimiter), the strongest first, with chance levels and q-values."""
        return answers.heads(atlas, relation, category, reads, min_score, side, rule, limit)

    @tool("The card of a head")
    def head(
        name: HeadName, atlas: Which = None, rule: Rule | None = None, relations: Rows = 10, operations: Rows = 15
    ) -> dict[str, Any]:
        """Everything that an atlas knows about one head: a sentence, its strongest relations with examples, the tokens
        that it amplifies most and what it maps them to, where it looks, similar heads. null: not measured."""
        return answers.head(atlas, name, rule, relations, operations)

    @tool("Heads that map given words")
    def find(pairs: Pairs, atlas: Which = None, k: K | None = None, top: Rows = 10) -> dict[str, Any]:
        """Rank the heads that map given words to given words, each one token. Reads the model: takes seconds to
        minutes."""
        return answers.find(atlas, pairs, k, top)

    @tool("Compare two atlases")
    def compare(
        first: Text,
        second: Text,
        by: Literal["heads", "function"] | None = None,
        side: Side = "score",
        limit: Rows = 50,
    ) -> dict[str, Any]:
        """What changes from one atlas to another: head by head where heads correspond, otherwise by function."""
        return answers.compare(first, second, by, side, limit)

    @tool("The map as a picture")
    def figure(
        atlas: Which = None,
        relation: Text | None = None,
        reading: bool = False,
        side: Side = "score",
        threshold: Share | None = None,
        rule: Rule | None = None,
        palette: Literal["paper", "colour-blind"] = "paper",
    ) -> Image:
        """Draw the map of all heads by category, one relation's heat map, or (reading) where the heads look."""
        return Image(data=answers.figure(atlas, relation, reading, side, threshold, rule, palette), format="png")

    def resource(uri: str, title: str, kind: str, make: Callable[[], str]) -> None:
        name = uri.removeprefix("headatlas://")

        def read() -> str:
            return make()

        server.resource(uri, name=name, title=title, description=NOTICE, mime_type=kind)(_guarded(read, ResourceError))

    resource("headatlas://atlases", "The atlases that are served", "application/json", answers.list_atlases)
    for name, each in answers.atlases.items():
        shown = printable(each.name)[:MOST_TEXT]
        report, manifest = (functools.partial(make, name) for make in (answers.report, answers.manifest))
        resource(f"headatlas://{name}/report", f"Report on {shown}", "text/markdown", report)
        resource(f"headatlas://{name}/manifest", f"Manifest of {shown}", "application/json", manifest)
    return server


_LOCK = threading.Lock()
"""Tools run in threads of their own; matplotlib and the caches of an atlas are for one at a time."""


def _guarded(function: Callable[..., Any], kind: type[Exception]) -> Callable[..., Any]:
    """The same function, whose errors reach the client as a sentence of that kind."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with _LOCK:
                return function(*args, **kwargs)
        except HeadatlasError as error:
            raise kind(printable(error)) from error

    return wrapped
