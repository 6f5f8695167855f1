"""Files of figures: metadata, the same bytes each time, no partial files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

import headatlas
from atlases import make_atlas
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import draw_map, render, save_figure
from headatlas.figures.saving import FORMATS

pytestmark = pytest.mark.usefixtures("rendered")


@pytest.fixture(scope="module")
def figure():
    return draw_map(make_atlas(7, 5, ("Knowledge", "a <b> & $c$"), name='demo "1" (\\)'), width="column")


def test_the_three_formats_are_what_they_claim_to_be(figure, tmp_path):
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")):
        path = save_figure(figure, tmp_path / f"map.{suffix}")
        assert path.read_bytes().startswith(start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.PDF", "map.png", "map.svg"]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_atlas_gives_the_same_bytes(format):
    one, two = (render(draw_map(make_atlas(7, 5, ("Knowledge",))), format) for _ in range(2))
    assert one == two
    assert not re.search(rb"(CreationDate|ModDate|dc:date)", one)


def test_png_says_what_it_shows(figure):
    image = Image.open(BytesIO(render(figure, "png")))
    assert image.size == tuple(round(inches * 300) for inches in figure.get_size_inches())
    assert image.text["Title"] == 'demo "1" (\\): attention heads by category'
    assert image.text["Settings"] == "maps" and image.text["Measure"] == "weights" and image.text["Side"] == "score"
    assert image.text["Fingerprint"] == "f" * 64 and image.text["Relations-SHA256"] == "a" * 64
    assert image.text["Software"] == f"headatlas {headatlas.__version__}"
    assert image.text["Description"].startswith('demo "1" (\\) · scores from weights · profile maps · score above')


def test_svg_says_what_it_shows_and_keeps_its_text(figure):
    root = ElementTree.fromstring(render(figure, "svg"))
    everything = ["".join(element.itertext()).strip() for element in root.iter()]
    assert 'demo "1" (\\): attention heads by category' in everything
    assert f"Fingerprint: {'f' * 64}" in everything and "Settings: maps" in everything
    written = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"All Categories", "Knowledge", "a <b> & $c$", "layer", "head", "Unclassified"} <= set(written)


def test_pdf_says_what_it_shows_and_embeds_truetype(figure):
    content = render(figure, "pdf")
    assert b'/Title (demo "1" \\(\\\\\\): attention heads by category)' in content
    assert b"Fingerprint: " + b"f" * 64 in content
    assert b"/CIDFontType2" in content and b"/Type3" not in content


def test_panels_are_drawn_not_pictures(figure):
    assert b"<image" not in render(figure, "svg")
    assert b"/Subtype /Image" not in render(figure, "pdf")


def test_a_figure_shows_itself_in_a_notebook():
    figure = draw_map(make_atlas(3, 2, ("Knowledge",)))
    assert figure._repr_png_() == render(figure, "png")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_any_matplotlib_figure_can_be_saved(tmp_path):
    from matplotlib.figure import Figure

    for format in FORMATS:
        assert save_figure(Figure(), tmp_path / f"plain.{format}").stat().st_size > 0


@pytest.mark.parametrize("name", ["map.jpeg", "map", ".png"])
def test_another_suffix_is_refused(figure, name):
    with pytest.raises(SettingsError) as caught:
        save_figure(figure, name)
    suffix = Path(name).suffix
    assert str(caught.value) == f"{name}: expected a name ending in .png, .svg, .pdf, found {suffix!r}."
    with pytest.raises(SettingsError, match=r"^format: expected one of png, svg, pdf, found 'jpeg'\.$"):
        render(figure, "jpeg")


def test_a_path_that_cannot_be_written_is_one_sentence_and_leaves_nothing(figure, tmp_path):
    missing = tmp_path / "nowhere" / "map.png"
    with pytest.raises(AtlasError) as caught:
        save_figure(figure, missing)
    assert str(caught.value) == f"{missing}: the figure cannot be written (No such file or directory)."
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(AtlasError, match="the figure cannot be written"):
        save_figure(figure, folder)
    assert list(tmp_path.iterdir()) == [folder]
