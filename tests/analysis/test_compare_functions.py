"""Two models of other shapes and tokenizers, compared by the words that both know."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from atlases import make_atlas, with_counts_of_hits, with_settings
from headatlas import compare_functions
from headatlas.atlas import save_atlas
from headatlas.cli import app
from headatlas.errors import AtlasError
from headatlas.figures import draw_function_comparison, render
from headatlas.relations import relation_title

KNOWLEDGE, LINGUISTIC = "knowledge_relation", "linguistic_relation"
WORDS = [(relation, f"s{number}", f"t{number}") for relation in (KNOWLEDGE, LINGUISTIC) for number in range(40)]


def with_hits(atlas, hits, words=WORDS):
    """The atlas with these pairs, and a hit for every ((layer, head), number of a pair in WORDS)."""
    columns = ["relation", "source", "target"]
    pairs = pd.DataFrame(words, columns=columns).assign(source_id=0, target_id=1)
    rows = [(*WORDS[pair], *place, "promoted", 0) for place, pair in hits]
    found = pd.DataFrame(rows, columns=[*columns, "layer", "head", "side", "rank"]).assign(source_id=0, target_id=1)
    return replace(atlas, pairs=pairs, pair_hits=found)


def hits_of(place, pairs):
    return [(place, pair) for pair in pairs]


def noise(n_layers, n_heads, seed):
    """Hits of every head on 12 random pairs."""
    generator = np.random.default_rng(seed)
    places = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    return {place: set(generator.choice(80, 12, replace=False).tolist()) for place in places}


def joined(hits):
    return [(place, pair) for place, pairs in hits.items() for pair in pairs]


@pytest.fixture
def models():
    """Two models of other shapes; L1H2 of the first and L5H0 of the second hit the same 25 capitals."""
    first, second = noise(5, 3, seed=0), noise(7, 2, seed=1)
    first[1, 2] = second[5, 0] = set(range(25))
    # The same relation, other words: similar to no head.
    first[2, 0], second[4, 1] = set(range(40, 58)), set(range(62, 80))
    return (
        with_hits(make_atlas(5, 3, name="small"), joined(first)),
        with_hits(make_atlas(7, 2, name="large"), joined(second)),
    )


def test_a_head_with_the_same_function_is_found_and_no_other(models):
    found = compare_functions(*models)
    assert [(each.first, each.second) for each in found.matched] == [((1, 2), (5, 0))]
    (match,) = found.matched
    assert match.similarity == pytest.approx(1) and match.common == 25
    assert match.expected_common == pytest.approx(25 * 25 / 40)
    assert len(found.matches) == 15 and 0 < found.by_chance < 0.6


def test_shuffled_words_match_nothing(models):
    first, second = models
    order = np.random.default_rng(3).permutation(80)
    hits = second.pair_hits.copy()
    number = {word: at for at, word in enumerate(WORDS)}
    places = [order[number[row]] for row in hits[["relation", "source", "target"]].itertuples(index=False, name=None)]
    hits[["relation", "source", "target"]] = [WORDS[place] for place in places]
    assert not compare_functions(first, replace(second, pair_hits=hits)).matched


def test_a_null_model_is_matched_as_the_second_would_be(models):
    first, second = models
    silent = with_hits(make_atlas(2, 2, name="silent"), [])
    null = compare_functions(*models, null=silent).null
    assert (null.name, null.heads, null.matched, null.similarity) == ("silent", 0, 0, None)
    random = with_hits(make_atlas(7, 2, name="random"), joined(noise(7, 2, seed=5)))
    null = compare_functions(*models, null=random).null
    assert (null.heads, null.matched) == (14, 0)
    found = compare_functions(first, silent, null=second).null
    assert found.matched == 1 and found.similarity == compare_functions(*models).similarity > null.similarity


def test_the_strongest_head_is_that_on_the_shared_pairs():
    every = hits_of((0, 0), range(20, 40)) + hits_of((4, 1), range(10))
    first = with_hits(make_atlas(5, 3, chance=True), every)
    second = with_hits(make_atlas(7, 2), hits_of((3, 1), range(20)), WORDS[:20])  # without the last capitals
    found = compare_functions(first, second)
    (relation,) = found.relations
    assert (relation.relation, relation.pairs) == (KNOWLEDGE, 20)
    assert (relation.first.name, relation.first.score, relation.first.depth) == ("L4H1", 0.5, 1.0)
    assert (relation.second.name, relation.second.score, relation.second.depth) == ("L3H1", 1.0, 0.5)
    at = first.relations.index(KNOWLEDGE)
    assert relation.first.chance == first.chance().values[at, 4, 1]
    assert relation.first.copying == first.copied.values[at, 4] / 40
    assert relation.first.heads == first.above()[at].sum() and relation.second.chance is None
    assert LINGUISTIC in found.only_first and LINGUISTIC in found.only_second


def test_a_relation_without_hits_has_no_strongest_head(models):
    first, _ = models
    found = compare_functions(first, with_hits(make_atlas(2, 2), []))
    assert all(each.second.name is None and each.second.score == 0 for each in found.relations)
    assert not found.matches and found.by_chance is None


def test_renumbered_heads_give_renumbered_matches(models):
    first, second = models
    turned = replace(second, pair_hits=second.pair_hits.assign(head=1 - second.pair_hits["head"]))
    assert [each.second for each in compare_functions(first, turned).matched] == [(5, 1)]


def test_nothing_shared_is_refused_with_the_reason(models):
    first, second = models
    with pytest.raises(AtlasError, match="expected relations with pairs of words that both measured, found none"):
        compare_functions(first, with_hits(second, [], [(KNOWLEDGE, "other", "words")]))
    with pytest.raises(AtlasError, match="demo-135M: expected the pairs that were measured, found none, as in"):
        compare_functions(first, make_atlas(5, 3))
    with pytest.raises(AtlasError, match="expected the same threshold, found"):
        compare_functions(first, with_settings(second, threshold="0.3"))


def test_the_command_compares_any_two_models(models, tmp_path):
    folders = [str(save_atlas(with_counts_of_hits(atlas), tmp_path / atlas.name)) for atlas in models]
    result = CliRunner().invoke(app, ["compare", *folders])
    assert result.exit_code == 0, result.output
    assert "A: small, B: large" in result.stdout and "The most similar heads" in result.stdout
    result = CliRunner().invoke(app, ["compare", *folders, "--json", "-o", str(tmp_path / "both.png")])
    assert json.loads(result.stdout)["matches"][0]["second"] == "L5H0"
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"
    result = CliRunner().invoke(app, ["compare", *folders, "--by", "heads"])
    assert result.exit_code == 2 and "expected the same layers x heads" in result.output
    same = CliRunner().invoke(app, ["compare", folders[0], folders[0], "--by", "function", "--null", folders[1]])
    assert same.exit_code == 0 and "A: small, B: small" in same.stdout
    shown = " ".join(same.stdout.split())
    assert "With large in the place of B (14 heads with 10 hits): heads of A that are matched: 1;" in shown
    result = CliRunner().invoke(app, ["compare", folders[0], folders[0], "--null", folders[1]])
    assert result.exit_code == 2 and "expected a comparison by function" in result.output


def test_the_picture_has_a_row_per_relation(models):
    figure = draw_function_comparison(compare_functions(*models))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        relation_title(name) for name in (LINGUISTIC, KNOWLEDGE)
    ]
    assert render(figure, "png")[:4] == b"\x89PNG"


def test_random_hits_match_nothing():
    """The bound of a match's p-value holds where pairs are hit by many heads or by few."""
    generator = np.random.default_rng(5)
    ease = generator.random(80) ** 2
    for _ in range(20):
        hits = [
            [((layer, head), int(pair)) for layer in range(6) for head in range(6)
             for pair in np.flatnonzero(generator.random(80) < ease * generator.random())]
            for _ in range(2)
        ]  # fmt: skip
        found = compare_functions(*(with_hits(make_atlas(6, 6), each) for each in hits))
        assert len(found.matches) > 10 and not found.matched
