"""The section for a model's card."""

import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from atlases import make_atlas, make_attention, with_manifest
from headatlas import classify
from headatlas.errors import SettingsError
from headatlas.reports.model_card import write_model_card

HOSTILE = "<img src=x onerror=alert(1)>|](javascript:alert)\n# Title"


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]
    return {row[0]: row for row in cells}


def test_counts_and_their_nulls():
    atlas = make_atlas(n_layers=7, n_heads=5, chance=True, unmeasured=("Rare",), seed=3)
    text, plain, strict = write_model_card(atlas), classify(atlas), classify(atlas, rule="calibrated")
    assert 0 < strict.n_classified < plain.n_classified
    assert f"{plain.n_classified} of 35 attention heads" in text
    assert f"; {strict.n_classified} of them beyond chance and beyond copying." in text
    rows = rows_of(text)
    assert rows["Rare"][1] == "not measurable"
    assert rows["Any"][1] == str(plain.n_classified) and rows["Any"][3] == str(strict.n_classified)
    for category in plain.categories:
        _, heads, _, beyond, head, relation, score, chance, copying = rows[category]
        assert heads == str(int(plain.of(category).sum())) and beyond == str(int(strict.of(category).sum()))
        layer, number = map(int, re.findall(r"\d+", head))
        place = {"relation": relation.strip("`"), "layer": layer, "head": number}
        assert score == f"{float(atlas.scores.sel(place)):.2f}" and chance == f"{float(atlas.chance().sel(place)):.2f}"
        of_layer = {name: place[name] for name in ("relation", "layer")}
        assert copying == f"{int(atlas.copied.sel(of_layer)) / 40:.2f}"
        # The strongest is one beyond chance and copying, since each category has one.
        (at,) = np.flatnonzero(atlas.data["relation"].values == place["relation"])
        assert strict.implements[at, layer, number]


def test_nothing_is_claimed_that_was_not_measured():
    atlas = make_atlas(n_layers=7, n_heads=5)
    text = write_model_card(atlas)
    assert "; chance and copying were not measured." in text and rows_of(text)["Any"][3] == "not measured"
    assert "named function" not in text and "shields.io" not in text and "pull" not in text
    assert "have a named function" in write_model_card(make_attention(atlas))


def test_a_published_atlas_is_linked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.example")
    atlas = make_atlas(n_layers=7, n_heads=5)
    text = write_model_card(atlas, published="org/tiny.atlas-1")
    links = re.findall(r"\]\((\S+?)\)", text)
    assert links.count("https://hub.example/datasets/org/tiny.atlas-1") == 3
    assert any(link.endswith("/datasets/org/tiny.atlas-1/resolve/main/figure.png") for link in links)
    assert "`headatlas pull org/tiny.atlas-1`" in text
    for name in ("tiny", "org/a b", "org/a)<b>", "../../x", "org/..", "https://x/y", "org/a--b", ""):
        with pytest.raises(SettingsError, match="expected the name of a data set on the hub such as org/name"):
            write_model_card(atlas, published=name)


def test_names_from_files_stay_text():
    atlas = make_atlas(n_layers=7, n_heads=5, name=HOSTILE, relations=("a`|b", "c", "d", "e"))
    atlas = with_manifest(atlas, label=HOSTILE)
    text = write_model_card(atlas, published="org/tiny")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = {child.type for token in tokens for child in token.children or [token]}
    assert "html_block" not in kinds and "html_inline" not in kinds
    assert sum(token.type == "heading_open" for token in tokens) == 1
    addresses = [child.attrs["href"] for token in tokens for child in token.children or [] if child.type == "link_open"]
    assert len(addresses) == 4 and not any("javascript" in address for address in addresses)
    assert len({row.count(" | ") for row in text.splitlines() if row.startswith("| ")}) == 1
