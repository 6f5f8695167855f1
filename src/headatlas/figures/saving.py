"""Figures as files: PNG, SVG and PDF with metadata; the same figure gives the same bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

from headatlas._version import __version__
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures.style import plain_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")


def render(figure: Figure, format: str) -> bytes:
    """The figure as the bytes of a `png`, `svg` or `pdf` file.

    The file contains no date, so that the same atlas gives the same bytes. Text in SVG stays text, which can be
    searched, read aloud and edited; a viewer without the font uses its own. PDF embeds fonts as TrueType (type 42), as
    journals ask for.

    Raises:
        SettingsError: another format.
    """
    if format not in FORMATS:
        raise SettingsError(f"format: expected one of {', '.join(FORMATS)}, found {format!r}.")
    buffer = BytesIO()
    with plain_style():
        # Some text, such as numbers of ticks, is made while the figure is drawn.
        matplotlib.rcParams["font.family"] = getattr(figure, "fonts", matplotlib.rcParams["font.family"])
        figure.savefig(buffer, format=format, metadata=_metadata(getattr(figure, "metadata", {}), format))
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write the figure to a file as PNG, SVG or PDF, by the suffix of its name. No partial file is left on an error.

    Raises:
        SettingsError: another suffix.
        AtlasError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise SettingsError(f"{path}: expected a name ending in .{', .'.join(FORMATS)}, found {path.suffix!r}.")
    content = render(figure, suffix)
    try:
        write_atomically(path, lambda file: file.write_bytes(content))
    except OSError as error:
        raise AtlasError(f"{path}: the figure cannot be written ({error.strerror or error}).") from error
    return path


def _metadata(known: dict[str, str], format: str) -> dict[str, str | list[str] | None]:
    """The metadata in the fields of each format: PNG text chunks, PDF document information, SVG Dublin Core."""
    tool = f"headatlas {__version__}"
    facts = [f"{name}: {value}" for name, value in known.items() if name not in ("Title", "Description")]
    if format == "png":
        return {**known, "Software": tool}
    described = {name: known[name] for name in ("Title", "Description") if name in known}
    if format == "svg":
        return described | {"Keywords": facts, "Creator": tool, "Date": None}
    if "Description" in described:
        described["Subject"] = described.pop("Description")
    return described | {"Keywords": "; ".join(facts), "Creator": tool, "CreationDate": None}
