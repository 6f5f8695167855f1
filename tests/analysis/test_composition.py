"""Edges that are named, sentences about them, and the heads by which prediction and measurement are compared."""

from dataclasses import replace

import numpy as np
import pytest

from atlases import make_atlas, make_composition
from headatlas.analysis.composition import find_composition, measured_composition
from headatlas.errors import AtlasError

EDGES = [
    # about, sender, later head, kind, strength, q
    ("previous", 0, 1, 2, 0, "key", 3.0, 1e-3),
    ("previous", 0, 2, 2, 0, "key", 5.0, 1e-3),
    ("previous", 1, 1, 2, 0, "key", 4.0, 1e-3),
    ("previous", 1, 2, 2, 0, "key", 2.0, 1e-3),
    ("induction", 2, 0, 3, 1, "query", 0.9, 1e-3),
    ("previous", 0, 1, 2, 0, "value", 0.3, 1e-3),
    ("previous", 0, 1, 3, 1, "key", 0.4, 1e-3),  # too weak
    ("previous", 0, 1, 3, 2, "key", 9.0, 0.02),  # not beyond chance
]


@pytest.fixture
def found():
    return find_composition(make_composition(make_atlas(n_layers=4, n_heads=3), EDGES))


def test_only_strong_edges_beyond_chance_are_named_the_strongest_first(found):
    assert [(each.kind, each.sender, each.strength) for each in found.edges] == [
        ("key", (0, 2), 5.0), ("key", (1, 1), 4.0), ("key", (0, 1), 3.0), ("key", (1, 2), 2.0),
        ("query", (2, 0), 0.9), ("value", (0, 1), 0.3),
    ]  # fmt: skip
    assert found.n_edges == len(EDGES)
    assert found.edges[4].as_dict() == {
        "sender": "L2H0", "receiver": "L3H1", "kind": "query", "about": "induction", "strength": 0.9, "chance": 0.0,
        "q": 1e-3,
        "removed": {"share": 0.5, "share_change": -0.25, "share_low": -0.25, "share_high": -0.25, "random_share": 0.125,
                    "copying_change": -0.25, "random_copying": 0.125},
    }  # fmt: skip
    assert found.edges[4].receiver == (3, 1)


def test_sentences(found):
    keys = "L0H2 (previous token), L1H1 (previous token), L0H1 (previous token) and 1 more through its keys"
    assert found.sentence(2, 0) == f"Fed by {keys}; L0H1 (previous token) through its values. Feeds L3H1."
    assert found.sentence(3, 1) == "Fed by L2H0 (induction) through its queries."
    assert found.sentence(0, 1) == "Feeds L2H0."
    assert found.sentence(3, 2) == "No edge to or from another head is beyond random pairs."


def test_predicted_induction_heads_and_their_agreement(found):
    assert [each[:2] for each in found.strongest()] == [(1, 0), (2, 0), (3, 0)]
    assert found.highest(found.share)[:4] == [(1, 0), (2, 0), (3, 0), (0, 0)]
    assert found.n_highest_in_both == 6
    assert found.agreement == pytest.approx(1)
    found.measured[:] = 0.5
    assert np.isnan(found.agreement)


def test_a_limit_that_the_manifest_lacks_is_the_usual_one(found):
    atlas = make_composition(make_atlas(n_layers=4, n_heads=3), EDGES)
    table, facts = atlas.evidence("edges"), atlas.manifest.evidence.edges
    limits = {kind: limit for kind, limit in facts.least_strength.items() if kind != "value"}
    lacking = atlas.with_evidence({"edges": (table, replace(facts, least_strength=limits))})
    assert find_composition(lacking).edges == found.edges


def test_what_was_not_measured():
    atlas = make_atlas()
    assert find_composition(atlas) is None
    measured = make_composition(atlas, EDGES)
    table, facts = measured.evidence("composition"), measured.manifest.evidence.composition
    assert find_composition(measured.with_evidence({"composition": (table.iloc[:0], facts)})) is None
    with pytest.raises(AtlasError, match="Measure it with `headatlas composition`"):
        measured_composition(atlas)
