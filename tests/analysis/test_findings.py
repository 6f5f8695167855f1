"""Findings about a map: planted bands, rows and meetings are found, random ones are not, and plain loops agree."""

from dataclasses import astuple, replace
from itertools import combinations, permutations, product
from math import comb, log
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact

from atlases import make_atlas, with_model
from headatlas.analysis.arrangements import find_arrangements
from headatlas.analysis.boundaries import best_boundary, find_boundaries
from headatlas.analysis.exceptional import far
from headatlas.analysis.findings import analyse
from headatlas.analysis.meetings import find_meetings, overlap_in_layers
from headatlas.analysis.significance import holm
from headatlas.atlas import Atlas, build_dataset
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring.import_scores import import_scores

PAIRS = 40
PYTHIA = Path(__file__).parents[3] / "shared" / "reference" / "pythia-6.9b-scores.csv"


def atlas_of(n_kv_heads=None, **has) -> Atlas:
    """An atlas of one relation per category; each value is Bool[ndarray, "layer head"]."""
    hits = np.stack([np.where(grid, 30, 2) for grid in has.values()]).astype("int32")
    n_layers, n_heads = hits.shape[1:]
    base = make_atlas(n_layers, n_heads, categories=tuple(has), relations=tuple(f"r_{name}" for name in has))
    base = with_model(base, n_kv_heads=n_kv_heads)
    labels = [(f"r_{name}", name, 10, PAIRS) for name in has]
    return Atlas(build_dataset(labels, {"hits": hits, "suppression_hits": np.zeros_like(hits)}), base.manifest)


def grid(n_layers=24, n_heads=10, share=0.0, seed=0):
    return np.random.default_rng(seed).random((n_layers, n_heads)) < share


# Spans


def test_spans_are_counted_from_the_grid():
    has = grid(25)
    has[3, 1] = has[6, :4] = has[20, 2:5] = True
    found = analyse(atlas_of(Knowledge=has))
    (span,) = found.spans
    assert (span.n_heads, span.first, span.quartiles, span.last) == (8, 3, (6, 6, 20), 20)
    assert (span.densest, span.most) == ((6,), 4)
    assert (span.depth(0), span.depth(6), span.depth(24)) == (0, 0.25, 1)
    assert found.overall.category is None and astuple(found.overall)[1:] == astuple(span)[1:]


def test_quartiles_are_reached_with_exactly_a_quarter_of_the_heads():
    has = grid(9)
    has[[1, 2, 4, 8], 0] = True
    assert analyse(atlas_of(Knowledge=has)).spans[0].quartiles == (1, 2, 4)


def test_ties_of_the_densest_layer_are_named():
    has = grid()
    has[[3, 7], 1] = True
    assert analyse(atlas_of(Knowledge=has)).spans[0].densest == (3, 7)


def test_heads_in_several_categories_are_counted_once():
    a, b = grid(seed=1, share=0.3), grid(seed=2, share=0.3)
    found = analyse(atlas_of(Algorithmic=a, Knowledge=b, Linguistic=a & b))
    assert found.in_several == ((3, (a & b).sum()),)
    assert found.overall.n_heads == (a | b).sum() == found.classification.n_classified


def test_a_category_without_heads():
    found = analyse(atlas_of(Knowledge=grid(), Linguistic=grid(share=0.3)))
    assert found.spans[0].first is None and found.spans[0].quartiles is None
    assert found.boundaries[1].layer is None and found.boundaries[1].untestable == "there is no such head"
    assert [each.category for each in found.arrangements] == ["Linguistic"]
    assert found.meetings == () and found.unimplemented == ("r_Knowledge",)


# Boundaries


@pytest.mark.parametrize("boundary", [1, 7, 23])
def test_a_planted_boundary_is_found(boundary):
    has = grid()
    has[boundary:] = grid(seed=1, share=0.5)[boundary:] if boundary == 7 else True
    _, found = analyse(atlas_of(Knowledge=has)).boundaries
    assert found.layer == boundary and found.ties == (boundary,)
    assert found.early == 0 and found.late == has[boundary:].mean()
    # One odd layer of 24 lies at an end in two of 24 permutations.
    assert found.p < 0.01 if boundary == 7 else found.p == pytest.approx(2 / 24, abs=0.01)


def test_boundaries_are_adjusted_for_all_that_were_tested():
    atlas = atlas_of(Algorithmic=grid(), Knowledge=grid(share=0.2, seed=1), Linguistic=grid(share=0.2, seed=2))
    found = analyse(atlas).boundaries
    assert [boundary.p_adjusted for boundary in found] == holm([boundary.p for boundary in found])
    assert [boundary.p is None for boundary in found] == [False, True, False, False]


def test_no_boundary_in_noise():
    p = [find_boundaries([("Knowledge", grid(share=0.2, seed=seed))], 0, 999)[0].p for seed in range(20)]
    assert sum(each < 0.05 for each in p) <= 4 and max(p) > 0.5


def test_ties_of_boundaries_are_named():
    has = np.zeros((3, 7), bool)
    has[[0, 2], 1] = True
    assert analyse(atlas_of(Knowledge=has)).boundaries[1].ties == (1, 2)
    # These two ratios are equal, but not in floating point.
    has = np.arange(5) < np.array([5, 1, 5, 4, 0, 3, 2])[:, None]
    assert analyse(atlas_of(Knowledge=has)).boundaries[1].ties == (1, 4)


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_ratio_is_the_plain_loop_s(seed):
    has = grid(9, 7, share=0.4, seed=seed)
    ratios = plain_ratios(has)
    layer, statistic = best_boundary(has.sum(1), 7)
    assert layer == 1 + int(np.argmax(np.round(ratios, 9))) and statistic == pytest.approx(max(ratios))
    _, found = analyse(atlas_of(Knowledge=has)).boundaries
    assert (found.layer, found.statistic) == (layer, statistic)


def test_the_permutation_p_is_that_of_all_orders():
    has = grid(6, 7)
    has[1, 0] = has[2, :2] = has[4, :3] = has[5, :5] = True
    observed = max(plain_ratios(has))
    orders = [max(plain_ratios(has[list(order)])) for order in permutations(range(6))]
    exact = np.mean([ratio >= observed - 1e-9 for ratio in orders])
    assert analyse(atlas_of(Knowledge=has)).boundaries[1].p == pytest.approx(exact, abs=0.01)


def plain_ratios(has):
    def loglik(part):
        k, n = int(part.sum()), part.size
        return sum(count * log(count / n) for count in (k, n - k) if count)

    return [2 * (loglik(has[:b]) + loglik(has[b:]) - loglik(has)) for b in range(1, len(has))]


def untestable(has):
    _, found = analyse(atlas_of(Knowledge=has)).boundaries
    assert (found.layer, found.p, found.p_adjusted, found.statistic, found.ties) == (None, None, None, None, ())
    return found.untestable


def test_what_has_no_boundary_says_why():
    for shape in ((1, 8), (1, 1)):
        assert untestable(np.ones(shape, bool)) == "the model has one layer"
    assert untestable(np.zeros((5, 3), bool)) == "there is no such head"
    assert untestable(np.ones((5, 3), bool)) == "all layers have the same number of such heads"
    assert untestable(np.eye(5, dtype=bool)) == "all layers have the same number of such heads"


# Meetings


def choices(n_heads, k):
    return [set(chosen) for chosen in combinations(range(n_heads), k)]


def test_overlap_in_layers_is_what_enumeration_gives():
    a, b, n_heads = [2, 1, 3], [1, 2, 3], 4
    counts = np.zeros(7)
    for sets in product(*(product(choices(n_heads, k), choices(n_heads, m)) for k, m in zip(a, b, strict=True))):
        counts[sum(len(first & second) for first, second in sets)] += 1
    found = overlap_in_layers(np.array(a), np.array(b), n_heads)
    assert counts.sum() == np.prod([comb(n_heads, k) for k in a + b])
    np.testing.assert_allclose(found, counts[: len(found)] / counts.sum(), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_p_in_layers_is_what_enumeration_gives(seed):
    a, b = grid(3, 5, share=0.5, seed=seed), grid(3, 5, share=0.5, seed=seed + 50)
    (meeting,) = analyse(atlas_of(Knowledge=a, Linguistic=b)).meetings
    # It suffices to shuffle the second.
    rows = [
        [sum(bool(a[layer, head]) for head in chosen) for chosen in choices(5, b[layer].sum())] for layer in (0, 1, 2)
    ]
    outcomes = np.array([sum(overlaps) for overlaps in product(*rows)])
    times = np.bincount(outcomes, minlength=16)
    p = times[times <= times[(a & b).sum()]].sum() / len(outcomes)
    assert meeting.p_in_layers == pytest.approx(p, abs=1e-9)
    assert meeting.expected_in_layers == pytest.approx(outcomes.mean())


@pytest.mark.parametrize("seed", range(6))
def test_p_over_the_model_is_fisher_s(seed):
    a, b = grid(seed=seed, share=0.3), grid(seed=seed + 50, share=0.2 + 0.1 * seed)
    (meeting,) = analyse(atlas_of(Knowledge=a, Linguistic=b)).meetings
    cells = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert meeting.p == pytest.approx(fisher_exact(cells)[1], rel=1e-9)


def test_meetings_that_layers_explain_differ_from_those_they_do_not():
    # Both categories fill the same band of layers at random: they meet often, but not within layers.
    in_band = [grid(seed=seed, share=0.5) & (np.arange(24) >= 16)[:, None] for seed in (1, 2)]
    (meeting,) = analyse(atlas_of(Knowledge=in_band[0], Linguistic=in_band[1])).meetings
    assert meeting.p < 0.001 and meeting.p_in_layers > 0.05
    # The same heads.
    same = grid(seed=3, share=0.2)
    (meeting,) = analyse(atlas_of(Knowledge=same, Linguistic=same)).meetings
    assert meeting.observed == same.sum() and meeting.p_in_layers < 1e-6
    assert meeting.observed > meeting.expected_in_layers > 0
    # Never the same.
    (meeting,) = analyse(atlas_of(Knowledge=same, Linguistic=~same)).meetings
    assert meeting.observed == 0 and meeting.p_in_layers < 1e-6


def test_independent_categories_meet_as_expected():
    p = []
    for seed in range(20):
        (meeting,) = find_meetings([("a", grid(share=0.3, seed=seed)), ("b", grid(share=0.3, seed=seed + 50))])
        p.append((meeting.p, meeting.p_in_layers))
    assert (np.array(p) < 0.05).sum(0).max() <= 4 and np.array(p).max(0).min() > 0.5


def test_expected_meetings():
    a, b = grid(seed=1, share=0.3), grid(seed=2, share=0.2)
    (meeting,) = analyse(atlas_of(Knowledge=a, Linguistic=b)).meetings
    assert meeting.observed == (a & b).sum()
    assert meeting.expected == pytest.approx(a.sum() * b.sum() / 240)
    assert meeting.expected_in_layers == pytest.approx((a.sum(1) * b.sum(1)).sum() / 10)
    assert meeting.ratio == pytest.approx(meeting.observed / meeting.expected)
    assert meeting.ratio_in_layers == pytest.approx(meeting.observed / meeting.expected_in_layers)


def test_meetings_are_adjusted_for_all_pairs():
    maps = {name: grid(seed=seed, share=0.3) for seed, name in enumerate(("Algorithmic", "Knowledge", "Linguistic"))}
    found = analyse(atlas_of(**maps)).meetings
    assert [meeting.pair for meeting in found] == list(combinations(maps, 2))
    assert [meeting.p_adjusted for meeting in found] == holm([meeting.p for meeting in found])
    assert [each.p_in_layers_adjusted for each in found] == holm([each.p_in_layers for each in found])


def test_meetings_without_a_choice_are_not_tested():
    (meeting,) = analyse(atlas_of(Knowledge=np.ones((5, 3), bool), Linguistic=grid(5, 3, share=0.5))).meetings
    assert (meeting.p, meeting.p_in_layers, meeting.p_adjusted, meeting.p_in_layers_adjusted) == (None,) * 4
    early, late = grid(6, 7), grid(6, 7)
    early[:3, 2] = late[3:, 2] = True
    (meeting,) = analyse(atlas_of(Knowledge=early, Linguistic=late)).meetings
    assert meeting.p == 1 and meeting.p_in_layers is None
    assert (meeting.expected_in_layers, meeting.ratio_in_layers) == (0, None)


# Layers, head numbers, groups


def test_bands_and_rows_are_distinguished():
    band, row = grid(), grid()
    band[8:11, 1:9] = True
    row[:, 4] = True
    (each,) = analyse(atlas_of(Knowledge=band)).arrangements
    assert each.by_layer > 0.7 and each.p_layer < 0.001
    (each,) = analyse(atlas_of(Knowledge=row)).arrangements
    assert each.by_head == pytest.approx(1) and each.p_head < 0.001 < 0.05 < each.p_layer
    (each,) = analyse(atlas_of(Knowledge=grid(share=0.2, seed=5))).arrangements
    assert min(each.p_layer, each.p_head) > 0.05
    assert each.by_layer == pytest.approx(each.by_layer_chance, abs=0.1)
    assert each.by_head == pytest.approx(each.by_head_chance, abs=0.1)


def test_a_dense_band_of_random_heads_is_no_row():
    p = []
    for seed in range(20):
        band = grid(share=0.4, seed=seed) & ((np.arange(24) >= 8) & (np.arange(24) < 16))[:, None]
        p.append(find_arrangements([("Knowledge", band)], None, 0, 999)[0].p_head)
    assert sum(each < 0.05 for each in p) <= 4 and max(p) > 0.5


def test_the_share_explained_and_its_p_are_what_enumeration_gives():
    has = np.zeros((3, 4), bool)
    has[0, :2] = has[1, 0] = has[2, [0, 3]] = True
    (each,) = analyse(atlas_of(Knowledge=has)).arrangements

    def share(has):
        def loglik(part):
            k, n = int(part.sum()), part.size
            return sum(count * log(count / n) for count in (k, n - k) if count)

        return 1 - sum(map(loglik, has)) / loglik(has)

    def placed(chosen, shape):
        heads = np.zeros(shape, bool)
        heads.ravel()[list(chosen)] = True
        return heads

    assert each.by_layer == pytest.approx(share(has)) and each.by_head == pytest.approx(share(has.T))
    rows = [[placed(chosen, 4) for chosen in combinations(range(4), k)] for k in has.sum(1)]
    within = np.array([share(np.stack(layers).T) for layers in product(*rows)])
    assert each.p_head == pytest.approx((within >= share(has.T) - 1e-9).mean(), abs=0.02)
    assert each.by_head_chance == pytest.approx(within.mean(), abs=0.01)
    spread = np.array([share(placed(chosen, (3, 4))) for chosen in combinations(range(12), 5)])
    assert each.p_layer == pytest.approx((spread >= share(has) - 1e-9).mean(), abs=0.02)
    assert each.by_layer_chance == pytest.approx(spread.mean(), abs=0.01)


def test_arrangements_without_a_choice_are_not_tested():
    (each,) = analyse(atlas_of(n_kv_heads=2, Knowledge=np.ones((5, 6), bool))).arrangements
    assert (each.by_layer, each.by_head, each.p_layer, each.p_head, each.p_group) == (None,) * 5
    (each,) = analyse(atlas_of(Knowledge=np.array([[True, False, True]]))).arrangements
    assert each.p_layer is None and each.p_head == 1
    full_band = grid()
    full_band[8:11] = True
    (each,) = analyse(atlas_of(Knowledge=full_band)).arrangements
    assert each.by_layer == pytest.approx(1) and each.p_layer < 0.001 and each.p_head is None


def test_key_value_groups():
    has = grid(24, 12)
    for layer in range(0, 24, 2):
        group = layer // 2 % 3
        has[layer, 4 * group : 4 * group + 3] = True
    (each,) = analyse(atlas_of(n_kv_heads=3, Knowledge=has)).arrangements
    assert each.group_pairs == 12 * 3 and each.group_pairs_chance == pytest.approx(12 * 3 * 3 / 11)
    assert each.p_group < 0.01
    scattered = grid(24, 12)
    scattered[::2, [0, 4, 8]] = True
    (each,) = analyse(atlas_of(n_kv_heads=3, Knowledge=scattered)).arrangements
    assert each.group_pairs == 0 and each.p_group == 1
    single = grid(24, 12)
    single[::2, 5] = True
    (each,) = analyse(atlas_of(n_kv_heads=3, Knowledge=single)).arrangements
    assert each.group_pairs == 0 and each.p_group is None
    for trivial in (None, 1, 12, 5):
        (each,) = analyse(atlas_of(n_kv_heads=trivial, Knowledge=has)).arrangements
        assert each.group_pairs is None and each.p_group is None


def test_more_categories_than_are_shuffled_together():
    maps = {f"c{number:02}": grid(20, 7, share=0.2, seed=number) for number in range(11)}
    maps["c09"] = grid(20, 7)
    maps["c09"][:, 3] = True
    found = {each.category: each for each in analyse(atlas_of(**maps)).arrangements}
    assert list(found) == sorted(maps) and found["c09"].p_head_adjusted < 0.01 and found["c02"].p_head > 0.001
    assert [each.p_head_adjusted for each in found.values()] == holm([each.p_head for each in found.values()])
    assert [each.p_layer_adjusted for each in found.values()] == holm([each.p_layer for each in found.values()])


# Rare and exceptional heads


def test_exceptional_heads():
    early, late = grid(), grid()
    early[2, 7] = early[10:13, 0] = True
    late[10, 0] = late[15, 2] = True
    found = analyse(atlas_of(Knowledge=early, Linguistic=late))
    assert [astuple(row) for row in found.apart] == [("Knowledge", (2, 7), 8, True)]
    assert found.few == (("r_Linguistic", ((10, 0), (15, 2))),)
    assert found.busiest == (((10, 0), 2),) and found.busiest_ties == 0
    assert found.both == () and found.both_maps is None


def test_a_head_is_apart_at_four_layers_or_an_eighth_of_them():
    assert [far(n_layers) for n_layers in (1, 12, 32, 33, 80)] == [4, 4, 4, 5, 10]
    for distance, expected in ((3, []), (4, [(15 + 4, 4, False)])):
        has = grid(24)
        has[13:16, 0] = has[15 + distance, 3] = True
        assert [(row.place[0], row.distance, row.before) for row in analyse(atlas_of(Knowledge=has)).apart] == expected
    two = grid()
    two[[0, 23], 0] = True
    assert analyse(atlas_of(Knowledge=two)).apart == ()


def test_ties_of_the_busiest_heads_are_counted():
    has = grid()
    has[5, :8] = True
    other = has.copy()
    other[5, 7] = False
    third = other.copy()
    third[5, 6] = False
    found = analyse(atlas_of(Algorithmic=third, Knowledge=has, Linguistic=other))
    # Six heads have three relations, one has two, one has one.
    assert found.busiest == tuple(((5, head), 3) for head in range(5)) and found.busiest_ties == 1


def test_strongest_heads_and_their_ties():
    atlas = atlas_of(Algorithmic=grid(4, 3), Knowledge=grid(4, 3), Linguistic=grid(4, 3))
    hits = np.zeros((3, 4, 3), dtype="int32")
    hits[0, 1, 2] = hits[0, 3, 0] = 10
    hits[1, 2, 2] = 11
    labels = [("a", "Algorithmic", 10, 30), ("k", "Knowledge", 10, 33), ("l", "Linguistic", 10, 40)]
    atlas = Atlas(build_dataset(labels, {"hits": hits, "suppression_hits": hits * 0}), atlas.manifest)
    found = analyse(atlas)
    assert [(row.relation, row.places, row.hits, row.pairs) for row in found.strongest] == [
        ("a", ((1, 2), (3, 0)), 10, 30),
        ("k", ((2, 2),), 11, 33),
        ("l", (), 0, 40),
    ]
    # 10 of 30 and 11 of 33 are the same share.
    assert [row.relation for row in found.best] == ["a", "k"]


def test_heads_that_promote_and_suppress():
    atlas = atlas_of(Knowledge=grid(share=0.1, seed=1))
    layer, head = (int(each[0]) for each in atlas.above()[0].nonzero())
    atlas.data["suppression"][0, layer, head] = 0.5
    atlas.data["suppression_hits"][0, layer, head] = 20
    found = analyse(atlas)
    assert found.both == (("r_Knowledge", (layer, head)),)
    assert found.both_maps.observed == 1 and found.both_maps.pair == ("score", "suppression")
    assert analyse(atlas, threshold="0.6").both == ()


def test_coverage_is_summed_and_unknown_stays_unknown():
    atlas = make_atlas(categories=("Knowledge",), unmeasured=("Translation",))
    coverage = analyse(atlas).coverage
    assert (coverage.n_relations, coverage.not_measurable) == (2, ("translation_words",))
    assert (coverage.pairs, coverage.in_file, coverage.duplicates) == (43, None, None)


# In all


def test_suppression_and_threshold_are_those_asked_for():
    atlas = make_atlas(seed=2)
    assert analyse(atlas, side="suppression").overall.n_heads == int(atlas.above(side="suppression").any(0).sum())
    assert analyse(atlas, threshold=0.5).overall.n_heads == int(atlas.above(0.5).any(0).sum())
    with pytest.raises(SettingsError, match="side: expected one of score, suppression"):
        analyse(atlas, side="both")
    scores = Atlas(build_dataset([("r", "Knowledge", 0, 0)], {"score": np.ones((1, 2, 2))}), atlas.manifest)
    with pytest.raises(AtlasError, match="came without suppression"):
        analyse(scores, side="suppression")
    found = analyse(scores)
    assert found.both is None and found.both_maps is None and found.best[0].hits is None


def test_the_same_seed_gives_the_same_numbers():
    atlas = make_atlas(seed=4)
    before = atlas.data.copy(deep=True)
    found, other = analyse(atlas), analyse(atlas, seed=1)
    assert repr(found) == repr(analyse(atlas)) and atlas.data.equals(before)
    for part in ("boundaries", "arrangements"):
        assert getattr(other, part) != getattr(found, part)
    for one, two in zip(other.boundaries, found.boundaries, strict=True):
        assert one.p == pytest.approx(two.p, abs=0.03) and one.layer == two.layer


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 7)])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_small_models_are_analysed(shape, share):
    found = analyse(
        atlas_of(n_kv_heads=1, Knowledge=grid(*shape, share=share), Linguistic=grid(*shape, share=share / 2))
    )
    assert len(found.boundaries) == 3 and len(found.spans) == 2


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


@pytest.mark.skipif(not PYTHIA.exists(), reason="the published scores are not part of the project")
def test_the_published_scores():
    found = analyse(import_scores(PYTHIA, "attention-fixed"))
    assert found.overall.n_heads == 176 and found.in_several == ((2, 26), (3, 8))
    assert {span.category: span.n_heads for span in found.spans} == {
        "Algorithmic": 68,
        "Knowledge": 62,
        "Linguistic": 88,
    }
    assert [found.classification.only(span.category) for span in found.spans] == [38, 37, 67]
    assert found.coverage.pairs is None


def test_chance_is_over_the_layers_that_have_heads():
    """Empty layers between the others change no test; boundaries keep the layers' own numbers."""
    whole = make_atlas(n_layers=8, n_heads=6, seed=4)
    without = make_atlas(n_layers=12, n_heads=6, without_heads=(0, 5, 6, 9))
    kept = np.flatnonzero(without.has_heads)
    for name in ("hits", "suppression_hits", "score", "suppression"):
        without.data[name].values[:, kept] = whole.data[name].values
    dense, sparse = analyse(whole), analyse(without)
    assert dense.meetings == sparse.meetings and dense.arrangements == sparse.arrangements
    for one, other in zip(dense.boundaries, sparse.boundaries, strict=True):
        moved = replace(one, layer=int(kept[one.layer]), ties=tuple(int(kept[tie]) for tie in one.ties))
        assert moved == other
    assert sparse.classification.n_heads == 48
