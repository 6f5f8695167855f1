"""The explorer in a notebook: what Python and the browser share, and what stays where no widget runs."""

import base64
import sys

import pytest

from atlases import make_atlas, make_others
from headatlas.errors import AtlasError, SettingsError
from headatlas.explorer import explore
from headatlas.explorer.payload import build_payload
from needs import need_package

need_package("anywidget", "notebook")


def test_the_widget_holds_the_page_s_data_and_core():
    atlas = make_atlas(5, 3)
    widget = explore(atlas)
    assert widget.payload == build_payload([atlas])
    assert "DecompressionStream" in widget._esm and ".ha-panel" in widget._css
    both = explore(atlas, make_atlas(5, 3, name="tuned"))
    assert both.payload != widget.payload
    with pytest.raises(AtlasError, match="expected the pairs that were measured, found none"):
        explore(atlas, make_atlas(7, 3))


def test_the_selection_is_read_from_the_view_and_set_in_it():
    widget = explore(make_atlas(5, 3))
    assert widget.selection is None
    widget.view = {"threshold": "0.3", "head": "L2H1"}  # as the browser sends it
    assert widget.selection == "L2H1"
    widget.selection = "L4H2"
    assert widget.view == {"threshold": "0.3", "head": "L4H2"}
    widget.selection = None
    assert widget.selection is None and widget.view["threshold"] == "0.3"
    pair = explore(*make_others())  # of other shapes, 5 x 3 and 7 x 2
    pair.view = {"card": "b"}
    pair.selection = "L6H1"
    assert pair.view == {"card": "b", "head": "L6H1"}
    with pytest.raises(SettingsError, match="expected L0H0 to L6H1, or None"):
        pair.selection = "L0H2"
    for bad in ("L5H0", "L0H3", "x", "l1h1"):
        with pytest.raises(SettingsError, match="expected L0H0 to L4H2, or None"):
            widget.selection = bad


def test_a_reader_without_widgets_gets_the_picture():
    data, _ = explore(make_atlas(5, 3))._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"])[:4] == b"\x89PNG"


def test_without_anywidget_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "headatlas.explorer.widget", raising=False)
    with pytest.raises(SettingsError, match=r"Install headatlas\[notebook\]"):
        explore(make_atlas(5, 3))
