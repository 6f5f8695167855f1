"""Scores to categories, and the published counts."""

import numpy as np
import pytest

from atlases import make_atlas
from headatlas.analysis.categories import classify
from headatlas.errors import AtlasError, SettingsError


def test_a_head_has_the_categories_of_the_relations_it_implements():
    atlas = make_atlas(n_layers=5, n_heads=3, seed=2)
    found = classify(atlas)
    assert found.categories == ("Algorithmic", "Knowledge", "Linguistic", "Translation")
    assert np.array_equal(found.has, atlas.above())
    assert found.n_classified == int(atlas.above().any(0).sum())
    only = atlas.above()[1] & (atlas.above().sum(0) == 1)
    assert found.only("Knowledge") == only.sum() and found.n_heads == 15


def test_categories_are_in_the_order_of_figures():
    atlas = make_atlas(categories=("Other", "Zoology", "Linguistic", "Algorithmic", "Art"), unmeasured=("Knowledge",))
    found = classify(atlas)
    assert found.categories == ("Algorithmic", "Linguistic", "Art", "Zoology", "Other")
    assert found.unmeasured == ("Knowledge",)
    assert np.array_equal(found.of("Art"), atlas.above()[4])


def test_the_threshold_and_the_kind_are_the_caller_s():
    atlas = make_atlas(seed=3)
    assert classify(atlas, "0.9").n_classified < classify(atlas).n_classified
    assert np.array_equal(classify(atlas, side="suppression").implements, atlas.above(side="suppression"))


def test_calibrated_heads_are_also_beyond_chance_and_copying():
    atlas = make_atlas(chance=True)
    strict = classify(atlas, rule="calibrated")
    beyond = (atlas.q_values().values < 0.01) & (atlas.scores.values - atlas.chance().values > 0.1)
    uncopied = atlas.uncopied().values
    beyond &= (atlas.uncopied_q_values().values < 0.01) & (uncopied > 0.15)
    beyond &= uncopied - atlas.uncopied_chance().values > 0.1
    beyond &= (atlas.uncopied_pairs.values >= 10)[:, :, None]
    assert (strict.implements == (classify(atlas).implements & beyond)).all() and strict.implements.any()
    assert 0 < strict.n_classified < classify(atlas).n_classified
    with pytest.raises(AtlasError, match="needs chance levels"):
        classify(make_atlas(n_layers=5, n_heads=3), rule="calibrated")
    with pytest.raises(SettingsError, match="expected one of plain, calibrated, found 'x'"):
        classify(atlas, rule="x")


def test_a_classification_is_computed_once_and_cannot_be_changed():
    atlas = make_atlas(5, 3, chance=True)
    found = classify(atlas)
    assert classify(atlas, atlas.threshold, "score", "plain") is found
    assert classify(atlas, "0.3") is not found and classify(make_atlas(5, 3, chance=True)) is not found
    for array in (found.has, found.implements, found.count):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
