"""A gallery of atlases that opens without a server or a network:

    python tools/make_gallery.py docs/_build/gallery ATLAS [ATLAS ...]

It writes `index.html` with the map of each atlas and what it shows in a sentence, and a folder for each with its
explorer.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import io
import re
from pathlib import Path

import headatlas
from headatlas.atlas import Atlas
from headatlas.atomic import write_atomically
from headatlas.explorer import write_page
from headatlas.figures import save_figure
from headatlas.printable import printable
from headatlas.reports.blocks import Paragraph
from headatlas.reports.model_card import summary

INDEX, PAGE, MAP = "index.html", "explorer.html", "figure.png"

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
section { margin: 2.5rem 0; }
h2 { margin-bottom: .25rem; }
img { width: 100%; background: #fff; border-radius: 6px; }
p { max-width: 46rem; }
"""


def make_gallery(folder: Path, atlases: list[Atlas]) -> Path:
    """Write the gallery; its index."""
    folder.mkdir(parents=True, exist_ok=True)
    sections, taken = [], set()
    for atlas in atlases:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", atlas.name).strip("-.").lower()[:60] or "atlas"
        while name in taken:
            name += "-2"
        taken.add(name)
        (folder / name).mkdir(exist_ok=True)
        write_page(folder / name / PAGE, atlas)
        save_figure(headatlas.draw_map(atlas), folder / name / MAP)
        sections.append(_section(atlas, name, (folder / name / MAP).read_bytes()))
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    text = io.StringIO()
    text.write(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; "
        "img-src data:; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>headatlas: gallery</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        "<h1>What the attention heads do</h1>\n"
        "<p>Maps of whole models, from their weights alone: a square is a head, layers run from left to right. "
        "Each opens as a page in which every head has a card.</p>\n"
    )
    text.writelines(sections)
    text.write("</body>\n</html>\n")
    write_atomically(folder / INDEX, lambda path: path.write_text(text.getvalue(), "utf-8"))
    return folder / INDEX


def _section(atlas: Atlas, name: str, picture: bytes) -> str:
    shown, page = html.escape(printable(atlas.name)), f"{name}/{PAGE}"
    found = summary(atlas, headatlas.classify(atlas))
    # The last paragraph explains the columns of a table that is not shown here.
    sentences = ["".join(map(str, block.text)) for block in found if isinstance(block, Paragraph)][:-1]
    sentences += [atlas.manifest.model.note or "", "A score shows a capability, not a role in the running model."]
    paragraphs = "".join(f"<p>{html.escape(printable(each))}</p>\n" for each in sentences if each)
    data = base64.b64encode(picture).decode()
    return (
        f'<section>\n<h2><a href="{page}">{shown}</a></h2>\n'
        f"<p>{atlas.n_layers:,} layers x {atlas.n_heads:,} heads, {len(atlas.relations):,} relations</p>\n"
        f'<a href="{page}"><img alt="Map of the heads of {shown}" src="data:image/png;base64,{data}"></a>\n'
        f'{paragraphs}<p><a href="{page}">Open the explorer</a></p>\n</section>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("atlases", nargs="+", metavar="ATLAS")
    arguments = parser.parse_args()
    print(make_gallery(arguments.folder, [headatlas.load_atlas(each) for each in arguments.atlases]))


if __name__ == "__main__":
    main()
