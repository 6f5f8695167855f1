"""The drawn map: colours of the artists, order, ticks, overlaps, and names from others."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.text import Text

from atlases import make_atlas
from headatlas import import_scores
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import PALETTES, draw_map, render

PAPER = PALETTES["paper"]
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "pythia-6.9b-scores.csv"
CATEGORIES = ("Algorithmic", "Knowledge", "Linguistic", "Translation", "Chemistry", "Geography of the wider world")
SHAPES = ((32, 32), (30, 9), (12, 12), (80, 64), (2, 3), (1, 1), (6, 71))
CASES = (
    *((n_categories, "column") for n_categories in (1, 3, 4, 5, 6)),
    *((n_categories, "page") for n_categories in (3, 6)),
    *((n_categories, "screen") for n_categories in (2, 4, 6)),
)  # fmt: skip


def panels(figure):
    return [axes for axes in figure.axes if (axes.get_gid() or "").startswith("panel-")]


def cells(axes) -> PolyCollection:
    (collection,) = [artist for artist in axes.collections if isinstance(artist, PolyCollection)]
    return collection


def colours(axes) -> list[str]:
    return [to_hex(colour) for colour in cells(axes).get_facecolors()]


def texts(figure) -> list[Text]:
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def legend(figure) -> list[tuple[str, str]]:
    """(name, colour) from top to bottom, as drawn."""
    swatches = [patch for patch in figure.patches + figure.artists if (patch.get_gid() or "").startswith("swatch-")]
    found = []
    for swatch in sorted(swatches, key=lambda patch: -patch.get_y()):
        box = swatch.get_window_extent()
        (label,) = [
            text.get_text()
            for text in figure.texts
            if box.y0 <= (text.get_window_extent().y0 + text.get_window_extent().y1) / 2 <= box.y1
            and 0 < text.get_window_extent().x0 - box.x1 < 0.1 * figure.dpi
        ]
        found.append((label, to_hex(swatch.get_facecolor())))
    return found


@pytest.mark.skipif(not REFERENCE.exists(), reason="the published scores are not part of the repository")
def test_the_published_scores_give_the_published_numbers_of_cells():
    figure = draw_map(import_scores(REFERENCE, "attention-fixed", name="Pythia 6.9B"))
    composite, *rest = (Counter(colours(axes)) for axes in panels(figure))
    assert composite == {
        PAPER.categories["Algorithmic"]: 38,
        PAPER.categories["Knowledge"]: 37,
        PAPER.categories["Linguistic"]: 67,
        PAPER.of_count(2): 26,
        PAPER.of_count(3): 8,
        PAPER.unclassified: 1024 - 176,
    }
    for name, count, panel in zip(CATEGORIES, (68, 62, 88), rest, strict=False):
        assert panel == {PAPER.categories[name]: count, PAPER.unclassified: 1024 - count}
    words = " ".join(text.get_text() for text in figure.texts)
    assert "attention-fixed scores of the running model, imported" in words and "176 of 1,024 heads" in words


def test_each_cell_is_at_its_layer_and_head():
    atlas = make_atlas(5, 3, ("Knowledge",), share=0.0)
    atlas.data["hits"][0, 4, 1] = 40
    axes = panels(draw_map(atlas))[0]
    (place,) = [number for number, colour in enumerate(colours(axes)) if colour == PAPER.categories["Knowledge"]]
    corners = cells(axes).get_paths()[place].vertices
    assert corners[:, 0].min() == 3.5 and corners[:, 1].min() == 0.5
    pixel = axes.transData.transform((4, 1))
    top_left = axes.transAxes.transform((0, 1))
    assert pixel[0] > top_left[0]
    figure = axes.figure
    image = np.asarray(figure.canvas.buffer_rgba()) if not figure.canvas.draw() else None
    drawn = image[image.shape[0] - 1 - int(pixel[1]), int(pixel[0])]
    assert to_hex(drawn / 255) == PAPER.categories["Knowledge"]
    assert axes.yaxis_inverted() and not axes.xaxis_inverted()


def test_order_of_panels_and_legend():
    figure = draw_map(make_atlas(categories=CATEGORIES[:4]))
    assert [axes.get_title() for axes in panels(figure)] == ["All Categories", *CATEGORIES[:4]]
    lefts = [axes.get_window_extent().x0 for axes in panels(draw_map(make_atlas(32, 32)))]
    assert lefts == sorted(lefts)
    assert legend(figure) == [
        ("4 categories", "#e377c2"),
        ("3 categories", "#8c564b"),
        ("2 categories", "#9467bd"),
        ("Translation", "#d62728"),
        ("Linguistic", "#2ca02c"),
        ("Knowledge", "#ff7f0e"),
        ("Algorithmic", "#1f77b4"),
        ("Unclassified", "#d9d9d9"),
    ]


def test_three_categories_name_both_counts_and_six_only_those_that_occur():
    atlas = make_atlas(categories=CATEGORIES[:3], share=0.0)
    for number in range(3):
        atlas.data["hits"][number, number, 0] = 40
    assert [name for name, _ in legend(draw_map(atlas))][:2] == ["3 categories", "2 categories"]
    atlas = make_atlas(categories=CATEGORIES, share=0.0)
    atlas.data["hits"][:5, 0, 0] = 40
    shown = legend(draw_map(atlas))
    assert shown[0] == ("5 categories", PAPER.of_count(5))
    assert not shown[1][0].endswith("categories")
    assert len({colour for _, colour in shown}) == len(shown)


@pytest.mark.parametrize(
    ("shape", "layers", "heads"),
    [
        ((32, 32), range(0, 32, 6), range(0, 32, 6)),
        ((30, 9), range(0, 30, 3), range(0, 9, 3)),
        ((12, 12), range(0, 12, 2), range(0, 12, 2)),
        ((80, 64), range(0, 80, 16), range(0, 64, 16)),
        ((6, 1), range(6), range(1)),
    ],
)
def test_ticks_are_round_with_one_step_for_both_axes(shape, layers, heads):
    for axes in panels(draw_map(make_atlas(*shape))):
        assert [text.get_text() for text in axes.get_xticklabels()] == [str(n) for n in layers]
        assert [text.get_text() for text in axes.get_yticklabels()] == [str(n) for n in heads]
        assert list(axes.get_xticks()) == list(layers) and list(axes.get_yticks()) == list(heads)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "head")


def overlaps(figure) -> list[str]:
    """Artists that overlap others or exceed the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    boxes += [
        (patch.get_gid(), patch.get_window_extent()) for patch in figure.artists + figure.patches if patch.get_gid()
    ]
    boxes += [(f"panel {number}", axes.get_window_extent()) for number, axes in enumerate(figure.axes)]
    inside = {text.get_text() for text in figure.findobj(Text) if (text.get_gid() or "").startswith("head-")}
    width, height = figure.get_size_inches() * figure.dpi
    wrong = [
        f"{name!r} outside"
        for name, box in boxes
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    # Extents of text include the height of the line; half a point of it may overlap.
    slack = figure.dpi * 0.5 / 72
    for (name, one), (other, two) in itertools.combinations(boxes, 2):
        if name in inside and other == "panel 0":
            continue
        if min(one.x1, two.x1) - max(one.x0, two.x0) > slack and min(one.y1, two.y1) - max(one.y0, two.y0) > slack:
            wrong.append(f"{name!r} over {other!r}")
    return wrong


def every_third(*lists):
    """All combinations as parameters. Two thirds of them are for `system`; each value also occurs in the others."""
    found = []
    for places in itertools.product(*map(range, map(len, lists))):
        values = [values[place] for values, place in zip(lists, places, strict=True)]
        name = "-".join("x".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values)
        found.append(pytest.param(*values, id=name, marks=[pytest.mark.system] if sum(places) % 3 else []))
    return found


@pytest.mark.parametrize(("shape", "case"), every_third(SHAPES, CASES))
def test_nothing_overlaps_or_is_cut(shape, case):
    n_categories, width = case
    atlas = make_atlas(*shape, CATEGORIES[:n_categories], unmeasured=("Law",), note="weights stored as Q4_1")
    figure = draw_map(atlas, width=width, side="suppression" if n_categories == 3 else "score")
    assert overlaps(figure) == []
    boxes = [axes.get_window_extent() for axes in panels(figure)]
    cells = [box.width / shape[0] for box in boxes]
    for box, cell in zip(boxes, cells, strict=True):
        assert box.height / shape[1] == pytest.approx(cell)
    assert cells[1:] == pytest.approx(cells[-1:] * len(cells[1:])) and cells[0] > cells[-1] - 1e-6


@pytest.mark.parametrize(
    ("shape", "width", "threshold"),
    every_third(SHAPES[:3] + SHAPES[4:7], ["screen", "column", 2.0], ["0.15", "0"]),
)
def test_nothing_overlaps_in_a_map_of_one_relation(shape, width, threshold):
    atlas = make_atlas(*shape, ("Knowledge",), relations=("country_to_capital",))
    assert overlaps(draw_map(atlas, relation="country_to_capital", width=width, threshold=threshold)) == []


@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), ("page", 5.5), (7.25, 7.25), ("13", None)])
def test_widths_are_exact(width, inches):
    if inches is None:
        width, inches = float(width), 13.0
    assert draw_map(make_atlas(12, 12), width=width).get_size_inches()[0] == pytest.approx(inches, abs=0.004)


def test_fonts_at_paper_sizes_are_7_to_9_points():
    for width in ("column", "page"):
        for text in texts(draw_map(make_atlas(), width=width)):
            assert 7 <= text.get_fontsize() <= 9, text
        for text in texts(draw_map(make_atlas(), width=width, relation="knowledge_relation")):
            assert 6.5 <= text.get_fontsize() <= 9, text


@pytest.mark.parametrize("shape", [(30, 9), (32, 32), (18, 4)])
@pytest.mark.parametrize("width", ["column", "page", "screen"])
def test_a_line_between_cells_lets_heads_be_counted(shape, width):
    one = panels(draw_map(make_atlas(*shape, CATEGORIES[:4]), width=width, relation="knowledge_relation"))
    figure = draw_map(make_atlas(*shape, CATEGORIES[:4]), width=width)
    for axes in one + panels(figure):
        wide = cells(axes).get_paths()[0].get_extents().width
        between = (1 - wide) * axes.get_window_extent().width / shape[0]
        assert 1 <= round(between, 3) <= 3  # pixels
    figure.canvas.draw()
    image = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    for axes in panels(figure):
        box = axes.get_window_extent()
        row = image[image.shape[0] - 1 - round(box.y1 - 0.4 * box.height / shape[1])]
        inner = row[round(box.x0) + 3 : round(box.x1) - 2]
        line = np.round(np.array(matplotlib.colors.to_rgb(axes.get_facecolor())) * 255).astype(int)
        is_line = (abs(inner - line) < 3).all(1).astype(int)
        assert (np.diff(is_line) == 1).sum() + is_line[0] == pytest.approx(shape[0] - 1, abs=1)


def named(figure) -> dict[str, Text]:
    return {text.get_gid(): text for text in figure.findobj(Text) if (text.get_gid() or "").startswith("head-")}


@pytest.mark.parametrize(("width", "most"), [("column", 4), ("page", 6), ("screen", 8)])
def test_the_strongest_heads_of_a_relation_are_named(width, most):
    atlas, weak = (make_atlas(30, 9, ("Knowledge",), share=0.0) for _ in range(2))
    hits = {(23, 4): 30, (23, 5): 20, (29, 2): 25, (2, 8): 10, (11, 0): 9}
    for (layer, head), count in hits.items():
        atlas.data["score"][0, layer, head] = count / 40
    figure = draw_map(atlas, relation="knowledge_relation", width=width)
    strongest = sorted(hits, key=lambda place: -hits[place])[:most]
    assert set(named(figure)) == {f"head-{layer}-{head}" for layer, head in strongest}
    assert named(figure)["head-23-4"].get_text() == "L23H4 0.75"
    assert overlaps(figure) == []
    figure.draw_without_rendering()
    (axes,) = panels(figure)
    for text in named(figure).values():
        box = axes.transData.inverted().transform_bbox(text.get_window_extent())
        assert not any(box.x0 < layer < box.x1 and box.y1 < head < box.y0 for layer, head in hits), text
    assert "above 0.15: 5 of 270 heads" in " ".join(text.get_text() for text in figure.texts)
    assert not named(draw_map(weak, relation="knowledge_relation", width=width))


def test_a_category_without_heads_has_no_panel_and_the_caption_says_so():
    atlas = make_atlas(categories=CATEGORIES[:4])
    atlas.data["hits"][3] = 0
    figure = draw_map(atlas)
    assert [axes.get_title() for axes in panels(figure)] == ["All Categories", *CATEGORIES[:3]]
    assert "Translation" not in dict(legend(figure)) and "no head: Translation" in figure.texts[-1].get_text()
    assert "no head: Translation" in figure.metadata["Description"]
    own = make_atlas(categories=("Chemistry", "Wine"))
    own.data["hits"][0] = 0
    assert legend(draw_map(own))[0] == ("Wine", PAPER.of_categories(("Chemistry", "Wine"))["Wine"])


def test_chosen_categories():
    atlas = make_atlas(categories=CATEGORIES[:4])
    figure = draw_map(atlas, categories=["translation", "Knowledge"])
    assert [axes.get_title() for axes in panels(figure)] == ["All Categories", "Knowledge", "Translation"]
    has = dict(zip(CATEGORIES, atlas.above(), strict=False))
    both = (has["Knowledge"] & has["Translation"]).sum()
    counts = Counter(colours(panels(figure)[0]))
    assert counts[PAPER.of_count(2)] == both > 0 and PAPER.of_count(3) not in counts
    assert counts[PAPER.categories["Knowledge"]] == has["Knowledge"].sum() - both
    assert [name for name, _ in legend(figure)] == ["2 categories", "Translation", "Knowledge", "Other heads"]
    assert f"{(has['Knowledge'] | has['Translation']).sum()} of 270 heads" in figure.texts[-1].get_text()
    (one,) = panels(draw_map(atlas, categories=["Knowledge"]))
    assert one.get_title() == "Knowledge"
    atlas.data["hits"][3] = 0  # What was asked for is shown, even if no head has it.
    assert [axes.get_title() for axes in panels(draw_map(atlas, categories=("Translation",)))] == ["Translation"]


@pytest.mark.parametrize("width", ["column", "screen"])
def test_without_a_caption_the_file_still_says_what_it_shows(width):
    atlas = make_atlas(note="weights stored as Q4_1")
    figure, with_caption = draw_map(atlas, width=width, caption=False), draw_map(atlas, width=width)
    assert not any("demo-135M" in text.get_text() or "Q4_1" in text.get_text() for text in texts(figure))
    assert figure.get_figheight() < with_caption.get_figheight() and overlaps(figure) == []
    assert figure.metadata == with_caption.metadata and "Q4_1" in figure.metadata["Description"]


def test_fonts_are_embedded():
    atlas = make_atlas(7, 5)
    for font, name in (("sans", b"DejaVuSans"), ("serif", b"STIXGeneral")):
        figure = draw_map(atlas, width="column", font=font)
        content = render(figure, "pdf")
        assert name in content and b"/CIDFontType2" in content and b"/Type3" not in content
        assert overlaps(figure) == []
    assert b"/BaseFont" in content and b"DejaVu" not in content


def test_panels_form_one_row_if_that_is_legible():
    def rows(atlas, width):
        return len({round(axes.get_window_extent().y1) for axes in panels(draw_map(atlas, width=width))})

    square = make_atlas(32, 32, CATEGORIES[:3])
    assert (rows(square, "screen"), rows(square, "page"), rows(square, "column")) == (1, 1, 2)


def test_one_relation_is_drawn_as_its_scores():
    atlas = make_atlas(7, 5, CATEGORIES[:2], relations=("first_letter", "country_to_capital"))
    figure = draw_map(atlas, relation="country_to_capital")
    (axes,) = panels(figure)
    assert axes.get_title() == "country_to_capital"
    assert np.array_equal(cells(axes).get_array(), atlas.scores.sel(relation="country_to_capital").values.T.ravel())
    assert cells(axes).get_clim() == (0, 1)
    words = [text.get_text() for text in texts(figure)]
    assert "score" in words and "0.15 threshold" in words
    assert "score: share of 40 pairs with the target among the 10 highest logits" in " ".join(words)
    lowest = draw_map(atlas, relation="country_to_capital", side="suppression")
    assert "Suppression" in [text.get_text() for text in lowest.texts]
    assert {"suppression"} <= {text.get_text() for text in lowest.texts}


def test_the_caption_says_what_was_measured():
    atlas = make_atlas(categories=CATEGORIES[:3], unmeasured=("Translation",), note="weights stored as Q4_1")
    words = "  ·  ".join(text.get_text() for text in draw_map(atlas).texts)
    for part in (
        "demo-135M  ·  scores from weights  ·  profile maps",
        "score above 0.15: ",
        "weights stored as Q4_1",
        "not measurable on this model: Translation",
    ):
        assert part in words
    assert "profile maps, modified: threshold=0.3" in draw_map(atlas, threshold=0.3).texts[-1].get_text()
    suppression = draw_map(atlas, side="suppression")
    assert "Suppression" in [text.get_text() for text in suppression.texts]
    assert "suppression above 0.15: " in suppression.texts[-1].get_text()
    assert "Suppression" not in [text.get_text() for text in draw_map(atlas).texts]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_are_printed_literally():
    hostile = ("$x_{1$", "a\x00b\ndef\x1b[31m\u202eabc", "<script>&" + "W" * 300, "\\frac{", "国と首都")
    atlas = make_atlas(12, 12, hostile, name="$\\alpha$\u0007\ud800" + "n" * 500, note="\x85 $$")
    for width in ("screen", "column"):
        figure = draw_map(atlas, width=width)
        figure.canvas.draw()
        for text in figure.findobj(Text):
            assert not text.get_parse_math() and not text.get_usetex()
            assert not text.get_text() or text.get_text().isprintable()
        assert overlaps(figure) == []
    assert "$x_{1$" in [axes.get_title() for axes in panels(figure)]


def test_an_atlas_without_a_measured_relation_is_all_grey():
    atlas = make_atlas(4, 3, ("Knowledge",), unmeasured=("Translation",))
    atlas = replace(atlas, data=atlas.data.isel(relation=slice(0, 0)))
    figure = draw_map(atlas)
    assert [axes.get_title() for axes in panels(figure)] == ["All Categories"]
    assert set(colours(panels(figure)[0])) == {PAPER.unclassified}
    assert "not measurable on this model: Knowledge, Translation" in figure.texts[-1].get_text()


def test_the_settings_of_matplotlib_are_neither_changed_nor_used():
    def picture():
        return render(draw_map(make_atlas(12, 12)), "png")

    plain = picture()
    own = {"font.size": 30, "axes.grid": True, "xtick.direction": "in", "savefig.bbox": "tight", "font.family": "serif"}
    with matplotlib.rc_context(own):
        before = dict(matplotlib.rcParams)
        assert picture() == plain
        assert dict(matplotlib.rcParams) == before


def test_drawing_needs_no_pyplot_and_importing_needs_no_matplotlib():
    code = """
import sys, headatlas.figures
assert headatlas.figures.PALETTES and "matplotlib" not in sys.modules
from atlases import make_atlas
for relation in (None, "knowledge_relation"):
    figure = headatlas.figures.draw_map(make_atlas(3, 2, ("Knowledge",)), relation=relation)
    for format in ("png", "pdf", "svg"):
        headatlas.figures.render(figure, format)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"palette": "neon"}, SettingsError, "palette: expected one of paper, colour-blind, found 'neon'."),
        (
            {"width": "wide"},
            SettingsError,
            "width: expected screen, page, column or 2 to 40 inches, found 'wide'.",
        ),
        ({"width": 1}, SettingsError, "width: expected screen, page, column or 2 to 40 inches, found 1."),
        (
            {"width": float("nan")},
            SettingsError,
            "width: expected screen, page, column or 2 to 40 inches, found nan.",
        ),
        ({"font": "comic"}, SettingsError, "font: expected one of sans, serif, found 'comic'."),
        (
            {"categories": ["Wine"]},
            SettingsError,
            "categories: expected some of Knowledge, found 'Wine'.",
        ),
        (
            {"categories": ["Knowledge"], "relation": "knowledge_relation"},
            SettingsError,
            "categories: the map of one relation has none. Leave out relation or categories.",
        ),
        ({"side": "both"}, SettingsError, "side: expected one of score, suppression, found 'both'."),
        ({"relation": "no_such"}, SettingsError, "relation: expected one of knowledge_relation, found 'no_such'."),
        (
            {"relation": "law_words"},
            AtlasError,
            "demo-135M: the relation 'law_words' was not measurable on this model; it has no scores.",
        ),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(options, error, message):
    with pytest.raises(error) as caught:
        draw_map(make_atlas(3, 2, ("Knowledge",), unmeasured=("Law",)), **options)
    assert str(caught.value) == message


def test_layers_without_heads_are_drawn_apart():
    atlas = make_atlas(n_layers=7, n_heads=5, without_heads=(0, 3))
    figure = draw_map(atlas)
    picture = "".join(text.get_text() for text in figure.texts)
    assert "No heads" in picture and "not applicable: 2 of 7 layers (linear attention)" in picture
    empty = to_rgba_array(PALETTES["paper"].not_applicable)[0]
    for axes in figure.axes[:2]:
        colours = cells(axes).get_facecolors().reshape(5, 7, 4)
        assert (colours[:, [0, 3]] == empty).all() and not (colours[:, [1, 2, 4, 5, 6]] == empty).all(-1).any()
    assert "No heads" not in "".join(text.get_text() for text in draw_map(make_atlas(7, 5)).texts)
    one = draw_map(atlas, relation="knowledge_relation")
    assert cells(one.axes[0]).get_array().mask.reshape(5, 7).all(0).tolist() == [at in (0, 3) for at in range(7)]
