"""The strongest heads of an atlas, each with a relation of its own."""

import numpy as np
import pytest

from atlases import make_atlas
from headatlas.analysis.categories import classify
from headatlas.analysis.strong_heads import only_suppressing, strong_heads


@pytest.mark.parametrize("chance", [False, True])
def test_each_relation_and_each_head_is_named_once_the_strongest_first(chance):
    atlas = make_atlas(7, 5, share=0.4, chance=chance)
    heads = strong_heads(atlas, 10)
    assert len(heads) == 4 and len({each.best.relation for each in heads}) == len({each.name for each in heads}) == 4
    first = heads[0]
    level = 0 if not chance else atlas.chance().values
    excess = np.where(
        classify(atlas, rule="calibrated" if chance else "plain").implements, atlas.share("score") - level, 0
    )
    relation = atlas.relations.index(first.best.relation)
    assert excess[relation, first.layer, first.head] == excess.max()
    assert first.best.hits == round(first.best.score * 40) and first.best.pairs == 40
    assert (first.best.chance is not None) == chance and first.best.example is None
    implemented = atlas.above()[:, first.layer, first.head]
    if not chance:
        assert first.more == implemented.sum() - 1
    assert strong_heads(atlas, 1) == heads[:1]


def test_there_may_be_none():
    assert strong_heads(make_atlas(3, 2, share=0.0), 10) == []


def test_heads_that_only_suppress():
    atlas = make_atlas(7, 5, share=0.4)
    found = only_suppressing(atlas)
    expected = atlas.above(side="suppression").any(0) & ~atlas.above().any(0)
    assert found is not None and 0 < expected.sum() == (found & expected).sum() == found.sum()
