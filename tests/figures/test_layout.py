"""Arrangements as plain numbers."""

from __future__ import annotations

import pytest

from headatlas.figures.layout import Content, arrange, choose_look


@pytest.mark.parametrize("width", ["screen", "column", 6.5])
def test_cells_are_whole_pixels_and_start_on_whole_pixels(width):
    look = choose_look(width)
    content = Content(30, 9, (0.9, 0.7, 0.7, 0.6), 0.4, 0.4, 0.35, 0.2, 0.9, 0.8)
    layout = arrange(content, look)
    for number in (*layout.cells, *(edge for panel in layout.panels for edge in panel)):
        assert number * look.dpi == pytest.approx(round(number * look.dpi), abs=1e-6)
    assert len(layout.panels) == 4 and layout.width <= look.width


def test_the_legend_is_right_of_the_first_panel():
    layout = arrange(Content(32, 32, (0.9, 0.7, 0.7), 0.4, 0.4, 0.35, 0.2, 0.9, 0.8), choose_look("page"))
    (x, y), second = layout.panels[0], layout.panels[1]
    assert x + 32 * layout.cells[0] < layout.legend[0] < second[0]
    assert layout.legend[1:] == (y, 32 * layout.cells[0]) and len(set(layout.cells)) == 1


def test_a_flat_map_in_a_narrow_figure_leaves_no_hole_beside_the_legend():
    content = Content(30, 9, (0.9, 0.7, 0.7, 0.7, 0.7), 0.4, 0.1, 0.33, 0.2, 0.85, 1.08, swatches=8)
    for width in ("page", "column"):
        layout = arrange(content, choose_look(width))
        x, y, height = layout.legend
        first = layout.panels[0][1] + 9 * layout.cells[0] + content.bottom
        assert layout.legend_columns > 1 or layout.cells[0] > layout.cells[1]
        assert y + height < first + 0.3 and x + layout.legend_columns * 0.85 <= layout.width
        assert min(top for _, top in layout.panels[1:]) < max(y + height, first) + 0.4
