"""The picture of which heads feed which: a line per edge, a dot per head, and its caption."""

import pytest
from matplotlib.patches import FancyArrowPatch

from atlases import make_atlas, make_composition
from headatlas.errors import AtlasError
from headatlas.figures import draw_composition

EDGES = [
    ("previous", 0, 1, 2, 0, "key", 3.0, 1e-3),
    ("previous", 0, 2, 2, 0, "key", 6.0, 1e-3),
    ("induction", 2, 0, 3, 1, "query", 0.9, 1e-3),
]


def test_lines_and_names():
    figure = draw_composition(make_composition(make_atlas(n_layers=4, n_heads=3), EDGES))
    (axes,) = figure.axes
    lines = [each for each in axes.patches if isinstance(each, FancyArrowPatch)]
    assert sorted(each.get_linestyle() for each in lines) == ["-", "-", "--"]
    assert len({round(each.get_linewidth(), 3) for each in lines}) == 2  # the strongest of each kind are as wide
    # L2H0 stands between two other heads, where its name has no room.
    assert {each.get_text() for each in axes.texts} == {"L0H1", "L0H2", "L3H1"}
    assert [each.get_text() for each in axes.get_legend().get_texts()][:2] == ["queries (1)", "keys (2)"]
    assert "3 of 3 edges are beyond random pairs" in figure.get_supxlabel()


def test_an_atlas_without_edges():
    (axes,) = draw_composition(make_composition(make_atlas(n_layers=4, n_heads=3), [])).axes
    assert not axes.patches and axes.get_legend() is None
    with pytest.raises(AtlasError, match="headatlas composition"):
        draw_composition(make_atlas())
