"""Every kind of figure in the widths of papers: its size, its fonts, and nothing cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from atlases import make_atlas, make_evidence, make_others
from figures.test_palettes import SIGHTS, least_distance
from headatlas import compare_atlases, compare_functions
from headatlas.analysis.audit import Audit, MovedWord, audit_heads
from headatlas.atlas.evidence import Ablation, AblationFacts, Control, RemovedBy, Status
from headatlas.errors import SettingsError
from headatlas.figures import (
    PALETTES,
    comparison,
    draw_ablation,
    draw_audit,
    draw_comparison,
    draw_composition,
    draw_function_comparison,
    draw_functions_of_models,
    draw_map,
    draw_reading,
    draw_sensitivity,
    draw_sizes,
    draw_survey,
    draw_validation,
)

REMOVED = (0, 1, 2, 4, 8)


def with_curves(atlas):
    """The atlas with an ablation of its first relation: 40 prompts, three random draws, two other tasks."""
    first, second, third, *_ = atlas.relations
    falls = {"score": 4.0, "random 1": 0.5, "random 2": 0.2, "random 3": 0.8}
    rows = [
        (first, task, order, n, int(30 - fall * n * (1 if task == first else 0.2) * 0.8), 40, -0.5 - 0.2 * fall * n)
        for task in (first, second, third)
        for order, fall in falls.items()
        for n in REMOVED
    ]
    columns = ["relation", "task", "order", "removed", "correct", "prompts", "log_probability"]
    controls = (Control(second, 0.8, 0.1), Control(third, 0.8, 0.1))
    found = Ablation(
        relation=first, prompt="{source} is", shots=4, base=0.75, heads=("L0H1",), controls=controls,
        status=Status.TESTED, seconds=1.0, prompts=40, most_heads=8, removed_by=RemovedBy.ZERO, seed=0, device="cpu",
        against=None,
    )  # fmt: skip
    return atlas.with_evidence({"ablation": (pd.DataFrame(rows, columns=columns), AblationFacts({first: found}))})


def make_index() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a survey of three models."""
    names = ["one-160M", "two-410M", "three-1.4B"]
    index = pd.DataFrame(
        {"name": names, "status": "mapped", "heads": [144, 384, 384], "parameters": [1.6e8, 4.1e8, 1.4e9],
         "classified": [20, 60, 70], "suppressing": [4, 8, 9], "reading": [30, 80, 90]}
    )  # fmt: skip
    for number, category in enumerate(("Algorithmic", "Knowledge", "Linguistic")):
        index[f"score_{category}"] = [number + 3, number + 8, number + 9]
        index[f"suppression_{category}"] = [1, 2, number + 1]
    rows = [
        (name, category, function, 0.2 * at + 0.2, 0.1, at * 3, at * 2, at * 2, 0.3 * at)
        for at, name in enumerate(names)
        for category, function in (("Knowledge", "country_to_capital"), ("Linguistic", "noun_to_plural"))
    ]
    columns = ["model", "category", "function", "score", "highest_chance", "heads", "beyond", "layer", "depth"]
    return index, pd.DataFrame(rows, columns=columns)


def make_audit(base, tuned) -> Audit:
    noise = [make_atlas(12, 9, seed=seed, name="noise") for seed in (7, 8)]
    generator = np.random.default_rng(0)
    factors = tuple(tuple(float(each) for each in row) for row in generator.lognormal(size=(12, 9)))
    words = tuple(
        MovedWord(f" word{number}", number, "L3H1", 3.0 - number / 5, "L4H2", (" uncharacteristically", " x"))
        for number in range(14)
    )
    heads = audit_heads(base, tuned, noise)
    return Audit("base", "tuned", 1000, 10, 0.1, 2, heads, 2000, 9, factors, (0.5, 2.0), words)


ATLAS = with_curves(make_evidence(make_atlas(12, 9, chance=True)))
TUNED = make_atlas(12, 9, seed=3, name="a tuned model with a long name, version 2")
INDEX, FUNCTIONS = make_index()
KINDS = {
    "map": lambda **look: draw_map(ATLAS, **look),
    "relation": lambda **look: draw_map(ATLAS, relation=ATLAS.relations[0], **look),
    "suppression": lambda **look: draw_map(ATLAS, side="suppression", **look),
    "reading": lambda **look: draw_reading(ATLAS, **look),
    "sensitivity": lambda **look: draw_sensitivity(with_ranks(ATLAS), **look),
    "validation": lambda **look: draw_validation(ATLAS, **look),
    "ablation": lambda **look: draw_ablation(ATLAS, ATLAS.relations[0], **look),
    "composition": lambda **look: draw_composition(ATLAS, **look),
    "comparison": lambda **look: draw_comparison(compare_atlases(ATLAS, TUNED), **look),
    "functions": lambda **look: draw_function_comparison(compare_functions(*make_others()), **look),
    "audit": lambda **look: draw_audit(make_audit(ATLAS, TUNED), **look),
    "survey": lambda **look: draw_survey(INDEX, **look),
    "functions of models": lambda **look: draw_functions_of_models(INDEX, FUNCTIONS, **look),
    "sizes": lambda **look: draw_sizes(INDEX, FUNCTIONS, **look),
}

UNTITLED = ("survey", "functions of models", "sizes")
"""Figures without a title, which have no caption to leave out."""


def with_ranks(atlas):
    """The atlas with a row per hit, as sensitivity needs it."""
    hits = atlas.data["hits"].values
    rows = [
        (relation, number, number, f" s{number}", f" t{number}", layer, head, "promoted", number % 10)
        for at, relation in enumerate(atlas.relations)
        for layer, head in np.argwhere(hits[at] > 0).tolist()
        for number in range(int(hits[at, layer, head]))
    ]
    columns = ["relation", "source_id", "target_id", "source", "target", "layer", "head", "side", "rank"]
    return replace(atlas, pair_hits=pd.DataFrame(rows, columns=columns))


def shown(figure) -> list[Text]:
    """The texts that are drawn: without numbers of ticks outside an axis, or of an axis that is off."""
    figure.canvas.draw()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            off = not axes.axison or not axes.get_visible()
            outside = [tick for tick in axis.get_major_ticks() if off or not low <= tick.get_loc() <= high]
            hidden |= {label for tick in outside for label in (tick.label1, tick.label2)}
            hidden |= {axis.label, axis.offsetText} if off else set()
    return [
        text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), ("page", 5.5)])
def test_every_figure_has_the_width_of_the_paper_and_legible_words(kind, width, inches):
    figure = KINDS[kind](width=width)
    assert figure.get_figwidth() == pytest.approx(inches, abs=0.004) and figure.dpi == 300
    assert figure.get_figheight() < 9
    page, slack = figure.bbox, 0.03 * figure.dpi
    for text in shown(figure):
        assert text.get_fontsize() >= 5.5, text
        box = text.get_window_extent()
        assert box.x0 > -slack and box.y0 > -slack, text
        assert box.x1 < page.x1 + slack and box.y1 < page.y1 + slack, text


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_takes_font_palette_and_no_caption(kind):
    plain = KINDS[kind](width="column")
    without = {} if kind in UNTITLED else {"caption": False}
    figure = KINDS[kind](width="column", font="serif", palette="colour-blind", **without)
    assert {name for text in shown(figure) for name in text.get_fontfamily()[:1]} == {"STIXGeneral"}
    assert figure.metadata["Title"] == plain.metadata["Title"] and figure.metadata["Description"]
    words = " ".join(text.get_text() for text in shown(figure)).replace("\n", " ")
    assert figure.metadata["Title"] not in words and figure.metadata["Description"] not in words
    for options in ({"width": "wide"}, {"palette": "neon"}, {"font": "comic"}):
        with pytest.raises(SettingsError, match=f"^{next(iter(options))}: expected "):
            KINDS[kind](**options)


def test_validation_is_a_density_of_all_points():
    figure = draw_validation(ATLAS)
    meshes = [mesh for axes in figure.axes for mesh in axes.collections if isinstance(mesh, QuadMesh)]
    n = len(ATLAS.relations) * ATLAS.n_layers * ATLAS.n_heads
    counted = [int(mesh.get_array().filled(0).sum()) for mesh in meshes if mesh.get_array().size == 25 * 25]
    assert counted == [n] * 8
    table = ATLAS.evidence("validation")
    part = table[(table["condition"] == "attention-fixed") & (table["tokens"] == "one")]
    relation = [ATLAS.relations.index(name) for name in part["relation"]]
    static = ATLAS.scores.values[relation, part["layer"], part["head"]]
    inside = ((static >= 0.48) & (static < 0.52) & (part["score"] >= 0.2) & (part["score"] < 0.24)).sum()
    assert meshes[0].get_array().filled(0).reshape(25, 25)[5, 12] == inside
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words[0].startswith(f"n = {n}")
    lines = [line.get_xdata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1]
    assert 0.15 in lines
    assert any("heads x relations" in axes.get_ylabel() for axes in figure.axes)


def test_ablation_shows_intervals_and_n():
    from headatlas.atlas.statistics import wilson_interval

    figure = draw_ablation(ATLAS, ATLAS.relations[0])
    accuracy = figure.axes[0]
    (bars,) = accuracy.containers
    segments = bars[2][0].get_segments()
    low, high = wilson_interval(np.array([30 / 40]), 40)
    assert len(segments) == len(REMOVED)
    assert segments[0][:, 1].tolist() == pytest.approx([low[0], high[0]])
    assert "n = 40 prompts" in [text.get_text() for text in accuracy.texts]
    (legend,) = figure.legends
    assert all(text.get_fontsize() <= 7.5 for text in legend.texts)


def test_comparison_has_colours_of_its_own():
    own = [comparison.KEPT, comparison.GAINED, comparison.LOST, comparison.NEITHER]
    for sight in SIGHTS:
        assert least_distance(own, sight) > 45
    for palette in PALETTES.values():
        for colour in own[:3]:
            others = [*palette.categories.values(), *palette.counts[:3]]
            assert min(least_distance([colour, other], "normal") for other in others) > 35
    changes = compare_atlases(ATLAS, TUNED)
    for palette in PALETTES:
        image = draw_comparison(changes, palette=palette).axes[1].images[0].get_array()
        change = changes.categories[1]
        for places, colour in ((change.kept, own[0]), (change.gained, own[1]), (change.lost, own[2])):
            assert places.any() and np.allclose(image.transpose(1, 0, 2)[places], to_rgb(colour))


def test_a_category_without_changes_or_heads_has_no_panel():
    first, second = make_atlas(5, 3), make_atlas(5, 3)
    for atlas in (first, second):
        atlas.data["hits"][3] = 0
    figure = draw_comparison(compare_atlases(first, second))
    assert not any("Translation" in axes.get_title() for axes in figure.axes)
