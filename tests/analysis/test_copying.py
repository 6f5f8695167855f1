"""A map compared with copying: levels, relations that cannot be told from it, scores that it explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from atlases import PAIRS, make_atlas, with_manifest
from headatlas.analysis.findings import analyse
from headatlas.atlas import COPYING_VARIABLES, head_name
from headatlas.reports.report import write_report
from headatlas.settings import MIN_UNCOPIED


def with_copied(atlas, relation, copied):
    """The atlas with the same number of copied pairs of a relation in every layer, and no uncopied hits there."""
    at = atlas.relations.index(relation)
    data = atlas.data.copy(deep=True)
    data["copied"][at] = copied
    for hits, _, p_value in COPYING_VARIABLES.values():
        data[hits][at], data[p_value][at] = 0, 1
    return replace(atlas, data=data)


def with_copying_relation(atlas, relation):
    items = [replace(item, is_copying=item.relation == relation) for item in atlas.manifest.relations.items]
    return with_manifest(atlas, relations=replace(atlas.manifest.relations, items=tuple(items)))


def test_levels_and_relations_that_cannot_be_told_from_copying():
    atlas = with_copied(make_atlas(chance=True), "linguistic_relation", PAIRS - MIN_UNCOPIED + 1)
    atlas = with_copied(atlas, "knowledge_relation", PAIRS - MIN_UNCOPIED)
    found = analyse(atlas).copying
    levels = {each.relation: each for each in found.levels}
    assert found.inseparable == ("linguistic_relation",)
    assert levels["linguistic_relation"].lowest == levels["linguistic_relation"].highest == 31 / 40
    assert levels["linguistic_relation"].n_inseparable == 30 and levels["knowledge_relation"].n_inseparable == 0
    assert levels["knowledge_relation"].fewest_uncopied == MIN_UNCOPIED
    assert levels["knowledge_relation"].n_beyond == 0 < levels["knowledge_relation"].n_above
    assert [each.highest for each in found.levels] == sorted((each.highest for each in found.levels), reverse=True)
    report = write_report(atlas)
    assert "`linguistic_relation` cannot be told from copying on this model" in report
    assert "| `knowledge_relation` | 0.75 | 10 |" in report
    assert analyse(atlas, rule="calibrated").classification.of("Linguistic").sum() == 0


def test_scores_that_copying_explains_are_listed_the_highest_first():
    atlas = with_copied(make_atlas(chance=True), "knowledge_relation", 20)
    found, above = analyse(atlas).copying, atlas.above()
    explained, chance = {(each.relation, each.head) for each in found.explained}, atlas.beyond_chance()
    at = atlas.relations.index("knowledge_relation")
    expected = {
        ("knowledge_relation", (int(layer), int(head)))
        for layer, head in zip(*(above & chance)[at].nonzero(), strict=True)
    }
    assert explained >= expected and not any(atlas.beyond_copying()[at].ravel())
    shares = [each.share for each in found.explained]
    assert shares == sorted(shares, reverse=True)
    for each in found.explained:
        place = (atlas.relations.index(each.relation), *each.head)
        assert (
            above[place]
            and chance[place]
            and each.pairs >= MIN_UNCOPIED
            and each.uncopied == atlas.uncopied().values[place]
        )
    assert (
        f"{len(found.explained)} scores above the threshold and beyond chance are not shown to be beyond copying"
        in write_report(atlas)
    )


def test_a_relation_of_words_with_themselves_names_the_heads_that_copy():
    atlas = with_copying_relation(make_atlas(chance=True), "algorithmic_relation")
    found = analyse(atlas).copying
    above = np.argwhere(atlas.above()[0])
    assert found.copying_heads == tuple(map(tuple, above.tolist()))
    assert "algorithmic_relation" not in {each.relation for each in found.levels}
    section = write_report(atlas).split("## How far it could be copying")[1].split("## ")[0]
    assert f"Heads that copy their word, by the relations of words with themselves: {head_name(*above[0])}," in section


def test_layers_without_heads_are_not_judged():
    atlas = make_atlas(chance=True, without_heads=(0, 3))
    assert not atlas.separable[:, [0, 3]].any() and np.isnan(atlas.uncopied_q_values().values[:, [0, 3]]).all()
    assert not atlas.beyond_copying()[:, [0, 3]].any()


def test_without_the_control_the_report_says_so():
    assert analyse(make_atlas()).copying is None
    assert "Which pairs copying hits: not measured." in write_report(make_atlas())
