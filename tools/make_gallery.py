"""A gallery of atlases that opens without a server or a network, and the figures of the documentation:

    python tools/make_gallery.py docs/_build/gallery ATLAS [ATLAS ...]
    python tools/make_gallery.py --figures docs ATLAS [OTHER]

The first writes `index.html` with the map of each atlas and what it shows in a sentence, and a folder for each with its
explorer. The second runs the commands of `MAPS` and `FIGURES`, whose pictures are those of `gallery.md`, and writes
that part of the page anew; figures of evidence that the atlas lacks stay as they are.
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

FIGURES = (
    ("column", "One column, in the font of papers", "figure demo-atlas -o {} --width column --font serif --no-caption"),
    ("page", "A page, for any colour vision", "figure demo-atlas -o {} --width page --palette colour-blind"),
    ("categories", "Some categories", "figure demo-atlas -o {} --width page --categories Knowledge,Linguistic"),
    ("suppression", "Suppression", "figure demo-atlas -o {} --width page --side suppression"),
    ("relation", "One relation, its strongest heads named",
     "figure demo-atlas -o {} --width page --relation country_to_capital"),
    ("sensitivity", "Threshold and k", "figure demo-atlas -o {} --width column --sensitivity"),
    ("reading", "Where the heads look", "figure demo-atlas -o {} --width page --reading"),
    ("validation", "Weights against the running model", "figure demo-atlas -o {} --width page --validation"),
    ("ablation", "Without these heads", "figure demo-atlas -o {} --width page --ablation country_to_capital"),
    ("composition", "Which heads feed which", "figure demo-atlas -o {} --width page --composition"),
    ("comparison", "Two models", "compare demo-atlas other-atlas -o {} --width page"),
)  # fmt: skip
"""Name, title and command of each figure; `{}` is its file."""

MAPS = {"demo-map": "figure demo-atlas -o {}", "gemma-map": "figure other-atlas -o {}"}
"""The command of each map, which the README shows too, by the name of its picture."""

NEEDS = {"reading": "attention", "validation": "validation", "ablation": "ablation", "composition": "composition"}
"""The evidence that a figure shows."""

START, END = "<!-- figures: written by tools/make_gallery.py -->", "<!-- end of the figures -->"

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


def make_figures(docs: Path, folder: Path, other: Path | None = None) -> list[str]:
    """Draw the figures that these atlases allow into `docs/images`, and write their part of `docs/gallery.md`.

    Returns:
        The names of the figures that were drawn.
    """
    from headatlas.cli import app

    atlas, drawn, parts = headatlas.load_atlas(folder), [], [START]
    places = {"demo-atlas": str(folder), "other-atlas": str(other)}

    def draw(name: str, picture: Path, command: str) -> None:
        if other is not None or "other-atlas" not in command:
            words = [places.get(word, word) for word in command.format(picture).split()]
            app(words, standalone_mode=False)
            drawn.append(name)

    for name, command in MAPS.items():
        draw(name, docs / "images" / f"{name}.png", command)
    for name, title, command in FIGURES:
        picture = docs / "images" / f"figure-{name}.png"
        if name not in NEEDS or atlas.evidence(NEEDS[name]) is not None:
            draw(name, picture, command)
        if picture.is_file():
            shown = command.format(f"{name}.pdf")
            parts.append(f"### {title}\n\n```text\nheadatlas {shown}\n```\n\n![{title}](images/{picture.name})")
    page = docs / "gallery.md"
    text = page.read_text("utf-8")
    before, rest = text.split(START)
    text = before + "\n\n".join(parts) + "\n\n" + END + rest.split(END)[1]
    write_atomically(page, lambda path: path.write_text(text, "utf-8"))
    return drawn


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
    parser.add_argument("--figures", action="store_true", help="draw the figures of the documentation instead")
    parser.add_argument("folder", type=Path)
    parser.add_argument("atlases", nargs="+", metavar="ATLAS")
    arguments = parser.parse_args()
    if arguments.figures:
        print(*make_figures(arguments.folder, *map(Path, arguments.atlases[:2])))
        return
    print(make_gallery(arguments.folder, [headatlas.load_atlas(each) for each in arguments.atlases]))


if __name__ == "__main__":
    main()
