"""The page draws as the figure does: cells, colours, ticks and legend of both are compared."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

from atlases import make_atlas
from explorer_core import ask
from headatlas.figures import draw_map
from headatlas.figures.proportions import ticks

pytestmark = pytest.mark.system

CATEGORIES = ("Algorithmic", "Knowledge", "Linguistic", "Translation", "Law", "Music")


def figure_cells(axes, cell: int) -> list[tuple[int, int, int, int, str]]:
    """(x, y, width, height, colour) of each cell in pixels from the panel's top left corner.

    Cells without lines between them reach below their neighbours, which are drawn later.
    """
    (cells,) = axes.collections
    corner = axes.transData.transform((-0.5, -0.5))
    found = []
    for path, colour in zip(cells.get_paths(), cells.get_facecolors(), strict=True):
        corners = (axes.transData.transform(path.vertices) - corner) * (1, -1)
        (x, y), (right, bottom) = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
        width, height = (min(cell, int(side)) for side in (right - x, bottom - y))
        found.append((int(x), int(y), width, height, to_hex(colour)))
    return sorted(found)


def page_cells(drawing, box, n_layers: int, n_heads: int) -> list[tuple[int, int, int, int, str]]:
    """The same of the page; what is hatched over a layer without heads is 1 pixel high."""
    shapes = [
        (each["x"] - box["left"], each["y"] - box["top"], each["width"], each["height"], each["colour"])
        for each in drawing["shapes"]
        if "text" not in each and each["height"] > 1
    ]
    inside = [each for each in shapes if 0 <= each[0] < n_layers * box["cell"] and 0 <= each[1] < n_heads * box["cell"]]
    return sorted(inside)


def page_ticks(drawing, box) -> tuple[list[int], list[int]]:
    """The layers and the heads that the page numbers, from where the numbers are."""
    texts = [each for each in drawing["shapes"] if each.get("text", "").isdigit()]
    below = [each for each in texts if each["anchor"] == "middle" and each["y"] > box["height"] - 36]
    left = [each for each in texts if each["anchor"] == "end"]
    for each in below:
        assert each["x"] == box["left"] + (int(each["text"]) + 0.5) * box["cell"]
    for each in left:
        assert each["y"] - 4.4 == pytest.approx(box["top"] + (int(each["text"]) + 0.5) * box["cell"], abs=0.5)
    return [int(each["text"]) for each in below], [int(each["text"]) for each in left]


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "n_categories"),
    [(30, 9, 4), (18, 4, 4), (32, 32, 3), (7, 5, 6), (1, 13, 1), (77, 5, 2), (90, 5, 2), (100, 5, 2), (140, 2, 2)],
)
def test_the_page_has_the_cells_the_ticks_and_the_legend_of_the_figure(n_layers, n_heads, n_categories, tmp_path):
    without = (3,) if n_layers > 5 else ()
    atlas = make_atlas(n_layers, n_heads, CATEGORIES[:n_categories], without_heads=without)
    figure = draw_map(atlas)
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if (axes.get_gid() or "").startswith("panel-")]
    cell = round(panels[0].get_window_extent().width / n_layers)
    (page,) = ask(atlas, [{"cell": cell}], tmp_path)["answers"]
    box = page["box"]
    assert box["cell"] == cell

    drawing = page["drawings"][0]
    assert page_cells(drawing, box, n_layers, n_heads) == figure_cells(panels[0], cell)
    shown = [axes.get_title() for axes in panels]
    assert [each["title"] for each in page["drawings"]][-len(shown) :] == shown
    numbered = [round(place) for place in panels[0].get_xticks()], [round(place) for place in panels[0].get_yticks()]
    if cell > 8:  # In smaller cells the page's numbers, which are smaller, have room where the figure's do not.
        assert page_ticks(drawing, box) == numbered
    swatches = {each.get_gid(): to_hex(each.get_facecolor()) for each in figure.artists if each.get_gid()}
    names = [text.get_text() for text in figure.texts][: len(swatches)]
    assert [tuple(each) for each in page["legend"]] == list(zip(names, swatches.values(), strict=True))


def test_ticks_are_the_same_for_all_sizes(tmp_path):
    sizes = (1, 2, 3, 4, 5, 7, 9, 12, 16, 25, 32, 33, 48, 64, 80, 126, 1000)
    given = list(itertools.product(sizes, sizes, (1, 2, 5, 9), (1, 3)))
    (answer,) = ask(make_atlas(), [{"ticks": given}], tmp_path)["answers"]
    assert answer == [[list(axis) for axis in ticks(*each)] for each in given]
