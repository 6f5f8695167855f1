"""Names and labels as they are printed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlases import IMPORTED, make_atlas, with_manifest, with_settings
from headatlas.analysis.categories import classify
from headatlas.figures.wording import caption, one_line, settings_label


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt2", "gpt2"),
        ("two\nlines\tand  more", "two lines and more"),
        ("a\x00b\u202ec\ud800", "a\ufffdb\ufffdc\ufffd"),
        ("x" * 61, "x" * 59 + "…"),
    ],
)
def test_printable(text, shown):
    assert one_line(text) == shown


@pytest.mark.parametrize(
    ("settings", "threshold", "expected"),
    [
        ({}, "0.15", "maps"),
        ({}, "0.150", "maps"),
        ({}, "0.2", "maps, modified: threshold=0.2"),
        ({"k": 5}, "0.2", "maps, modified: k=5, threshold=0.2"),
        ({"threshold": "0.3"}, "0.2", "maps, modified: threshold=0.2"),
        ({"threshold": "0.3"}, "0.15", "maps"),
        ({"threshold": "0.3", "k": 5}, "0.15", "maps, modified: k=5"),
        ({"threshold": "0.3", "contextualize": "embedding"}, "0.15", "maps, modified: contextualize=embedding"),
    ],
)
def test_a_changed_threshold_is_part_of_the_settings(settings, threshold, expected):
    atlas = with_settings(make_atlas(2, 2, ("Knowledge",), chance=True), **settings)
    assert settings_label(atlas, classify(atlas, threshold)) == expected
    calibrated = classify(atlas, threshold, rule="calibrated")
    assert settings_label(atlas, calibrated) == expected.replace("maps", "maps, calibrated")


def test_the_label_of_imported_scores_names_another_threshold():
    atlas = with_manifest(make_atlas(2, 2, ("Knowledge",)), label="imported: in-context", imported=IMPORTED)
    assert settings_label(atlas, classify(atlas)) == "imported: in-context"
    assert settings_label(atlas, classify(atlas, "0.2")) == "imported: in-context, threshold=0.2"


@pytest.mark.parametrize(
    ("k", "side", "words"),
    [
        (10, "score", "score: share of 40 pairs with the target among the 10 highest logits"),
        (1, "suppression", "suppression: share of 40 pairs with the target as the lowest logit"),
        (0, "score", "score: share of 40 pairs with the target among the highest logits"),
    ],
)
def test_a_relations_caption_says_k(k, side, words):
    atlas = make_atlas(2, 2, ("Knowledge",))
    atlas = replace(atlas, data=atlas.data.assign_coords(k=("relation", [k])))
    assert words in caption(atlas, classify(atlas, side=side), "knowledge_relation")


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("weights", "scores from weights, imported"),
        ("attention-fixed", "attention-fixed scores of the running model, imported"),
        ("in-context", "in-context scores of the running model, imported"),
    ],
)
def test_imported_scores_are_called_that(measure, words):
    atlas = make_atlas(2, 2, ("Knowledge",))
    atlas = with_manifest(atlas, measure=measure, label=f"imported: {measure}", imported=IMPORTED)
    assert caption(atlas, classify(atlas))[1] == words
