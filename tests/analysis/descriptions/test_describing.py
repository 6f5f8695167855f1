"""Descriptions of an atlas: relations beyond chance only, every head once, none for layers without heads."""

from atlases import make_atlas, make_evidence
from headatlas.analysis.descriptions.describing import describe_heads, known_relations


def test_relations_within_chance_or_copying_are_not_reported():
    atlas = make_atlas(chance=True)
    above, beyond = atlas.above(), atlas.beyond_chance() & atlas.beyond_copying()
    assert (above & ~beyond).any() and (above & beyond).any()
    for layer in range(atlas.n_layers):
        for head in range(atlas.n_heads):
            found = {each.name: each for each in known_relations(atlas, layer, head)}
            here = (above & beyond)[:, layer, head]
            assert set(found) == {name for name, both in zip(atlas.relations, here, strict=True) if both}
            for name, each in found.items():
                assert each.chance == float(atlas.chance().sel(relation=name, layer=layer, head=head))
    bare = make_atlas()
    at = [int(where[0]) for where in bare.above().nonzero()]
    (first, *_) = known_relations(bare, at[1], at[2])
    assert first.chance is None


def test_every_head_has_one_row():
    atlas = make_evidence(make_atlas(n_layers=5, without_heads=(2,)))
    table, facts = describe_heads(atlas, atlas.evidence("salient"))
    assert len(table) == facts.heads == sum(facts.rules.values()) == 4 * 9
    assert set(table["layer"]) == {0, 1, 3, 4}
    assert list(table.columns) == ["layer", "head", "description", "rule", "confidence"]
    assert ((table["confidence"] == 0) == (table["rule"] == "unclear")).all()
