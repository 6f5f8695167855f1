"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headatlas.measuring.engine import EngineName


class Side(StrEnum):
    score = "score"
    suppression = "suppression"


class Measure(StrEnum):
    weights = "weights"
    attention_fixed = "attention-fixed"
    in_context = "in-context"


class Palette(StrEnum):
    paper = "paper"
    colour_blind = "colour-blind"


class Font(StrEnum):
    sans = "sans"
    serif = "serif"


class ExportFormat(StrEnum):
    csv = "csv"
    json = "json"
    heads = "heads"
    headvis = "headvis"
    headvis_json = "headvis-json"
    full_attention = "full-attention"
    torch = "torch"
    nnsight = "nnsight"
    nnterp = "nnterp"
    transformer_lens = "transformer-lens"
    inspect = "inspect"


RULES, PROFILES = "plain|calibrated", "alone|maps"
"""Choices that the measurement itself checks, as the help lists them."""

AtlasFolder = Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder made by `headatlas map` or `import`.")]
Threshold = Annotated[
    str | None, typer.Option(metavar="SHARE", help="A head implements a relation strictly above this; default 0.15.")
]
SideOption = Annotated[Side, typer.Option(help="Targets among the highest logits, or among the lowest.")]
DeviceOption = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where the model is computed; also cuda:N.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
EngineThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; with ray, CPUs of one task (default 1).")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Where the model is; default: where your map read it."),
]
AdapterOption = Annotated[
    Path | None, typer.Option("--adapter", metavar="PATH", help="The LoRA adapter that it was mapped with.")
]
TableOption = Annotated[
    bool, typer.Option("--table", help="Print all categories and the strongest head of each relation too.")
]
SeedOption = Annotated[int, typer.Option(help="Of all random choices.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EngineOption = Annotated[EngineName, typer.Option(help="Where layers are scored: this process, or a Ray cluster.")]
AddressOption = Annotated[
    str | None, typer.Option(metavar="ADDR", help="With ray: auto (default), HOST:PORT of its head, or local.")
]
GpusOption = Annotated[float, typer.Option(metavar="N", min=0, help="With ray: GPUs of one task; default 0.")]
Relations = Annotated[
    list[Path] | None,
    typer.Option("--relations", metavar="PATH", help="Relations instead of the built-in ones; repeatable."),
]
AddRelations = Annotated[
    list[Path] | None, typer.Option("--add-relations", metavar="PATH", help="Further relations; repeatable.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to this file.")]
RuleOption = Annotated[
    str | None,
    typer.Option("--rule", metavar=RULES, help="How heads are classified; default: the atlas's own."),
]
PaletteOption = Annotated[Palette, typer.Option(help="Colours as in the paper, or safe for the colour-blind.")]
WidthOption = Annotated[
    str, typer.Option(metavar="screen|column|page|N", help="Width: 3.25 in (column), 5.5 in (page) or N inches.")
]
FontOption = Annotated[Font, typer.Option(help="sans (DejaVu Sans) or serif (STIX, as Times).")]


def inches_or_name(width: str) -> str | float:
    """The value of `--width`: a number where it is one.

    >>> inches_or_name("page"), inches_or_name("6.5")
    ('page', 6.5)
    """
    return float(width) if width.replace(".", "", 1).isdigit() else width
