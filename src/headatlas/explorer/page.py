"""One HTML file that holds the explorer and its data, and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.atlas import Atlas
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError
from headatlas.explorer.payload import build_payload
from headatlas.printable import printable
from headatlas.reports.blocks import Blocks

if TYPE_CHECKING:
    from headatlas.analysis.attribution import LogitAttribution

PAGES = {"explorer": ("page.js", "explorer.css"), "film": ("film.js", "film.css")}
"""Script and style of each page."""
ICON = "".join(
    f'<rect x="{x}" y="{y}" width="4" height="4" fill="{colour}"/>'
    for x, y, colour in (
        (1, 1, "#d9d9d9"), (6, 1, "#2ca02c"), (11, 1, "#d9d9d9"),
        (1, 6, "#1f77b4"), (6, 6, "#d9d9d9"), (11, 6, "#ff7f0e"),
        (1, 11, "#d9d9d9"), (6, 11, "#ff7f0e"), (11, 11, "#d9d9d9"),
    )
)  # fmt: skip
"""A map of nine heads, for the browser's tab."""


def build_page(*atlases: Atlas, reports: Sequence[Blocks] | None = None, prompt: LogitAttribution | None = None) -> str:
    """The page of one atlas, or of two that are compared, as HTML.

    Args:
        reports: the report of each atlas; default: they are built.
        prompt: what the heads of the first atlas do at a prompt, from `attribute_logit`.

    Raises:
        AtlasError: two atlases that cannot be compared, or a prompt that another model read.
    """
    title = " and ".join(atlas.name for atlas in atlases)
    return page("explorer", title, base64.b64encode(build_payload(list(atlases), reports, prompt)).decode())


def page(which: str, title: str, data: str) -> str:
    """A page with its script, style and data, as HTML; it may ask nothing of any network.

    Args:
        which: `explorer` or `film`.
        title: of the window.
        data: base64, which the script reads.
    """
    script, style = (_static(name) for name in PAGES[which])
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    icon = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{ICON}</svg>'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:image/svg+xml;base64,{base64.b64encode(icon.encode()).decode()}">\n'
        f"<title>{html.escape(printable(title))} · headatlas</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<div id="headatlas" class="headatlas"><noscript>This page draws its maps with JavaScript, which is switched '
        "off here.</noscript></div>\n"
        f'<script type="application/octet-stream" id="headatlas-data">{data}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def write_page(
    path: str | Path,
    *atlases: Atlas,
    reports: Sequence[Blocks] | None = None,
    prompt: LogitAttribution | None = None,
) -> Path:
    """Write the page of one atlas, or of two; `reports` and `prompt` are those of `build_page`.

    Raises:
        AtlasError: the file cannot be written, or as `build_page`.
    """
    return write_html(path, build_page(*atlases, reports=reports, prompt=prompt))


def write_html(path: str | Path, text: str) -> Path:
    """Write a page.

    Raises:
        AtlasError: the file cannot be written.
    """
    path = Path(path)
    try:
        write_atomically(path, lambda file: file.write_text(text, "utf-8"))
    except OSError as error:
        raise AtlasError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def _static(name: str) -> str:
    return (Path(__file__).parent / "static" / name).read_text("utf-8").strip()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
