"""What a map shows, in three sentences."""

import re

import numpy as np

from atlases import PAIRS, make_atlas
from headatlas.atlas import build_dataset
from headatlas.reports.headline import headline


def test_three_sentences_with_their_nulls():
    atlas = make_atlas(12, 5, share=0.3, chance=True)
    how_many, where, strongest = headline(atlas)
    found = int(atlas.above().any(0).sum())
    assert how_many.startswith(f"{found} of 60 heads of demo-135M (")
    assert re.search(r"implement at least one of 4 measured relations, \d+ of them beyond chance and copying", how_many)
    assert where == "They are in layers 0 to 11; no clear boundary divides early from late layers."
    assert re.match(r"The strongest is L\d+H\d, for \w+ relation: \d+ of 40 pairs, where chance hits \d", strongest)


def test_a_clear_boundary_is_named():
    atlas = make_atlas(12, 5, share=0.0)
    hits = np.zeros((4, 12, 5), "int32")
    hits[:, 8:] = PAIRS
    relations = [(name, name, 10, PAIRS) for name in atlas.relations]
    late = type(atlas)(
        build_dataset(relations, {"hits": hits, "suppression_hits": 0 * hits}, ["exact"] * 12), atlas.manifest
    )
    _, where, _ = headline(late)
    assert where.startswith("They lie late: 100.0 % of the heads in layers 8 to 11 have such a function, and 0.0 % of")
    early = type(atlas)(
        build_dataset(relations, {"hits": hits[:, ::-1], "suppression_hits": 0 * hits}, ["exact"] * 12), atlas.manifest
    )
    assert headline(early)[1].startswith("They lie early: 100.0 % of the heads in layers 0 to 3 ")


def test_no_head_is_a_sentence_too():
    (only,) = headline(make_atlas(3, 2, share=0.0))
    assert only == "None of 6 heads of demo-135M implements one of 4 measured relations (score above 0.15)."
