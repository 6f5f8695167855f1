"""What the map shows: planted bands, rows and meetings are found, chance is not, and plain loops agree."""

from itertools import product
from math import comb, log

import numpy as np
import pytest

from atlases import make_atlas
from headatlas.analysis import analyse, best_boundary, holm, overlap_in_layers
from headatlas.atlas import Atlas, build_dataset

PAIRS = 40


def atlas_of(n_kv_heads=None, **has) -> Atlas:
    """An atlas of one relation per category; each value is Bool[ndarray, "layer head"]."""
    hits = np.stack([np.where(grid, 30, 2) for grid in has.values()]).astype("int32")
    n_layers, n_heads = hits.shape[1:]
    base = make_atlas(n_layers, n_heads, categories=tuple(has), relations=tuple(f"r_{name}" for name in has))
    base.manifest["model"]["n_kv_heads"] = n_kv_heads
    labels = [(f"r_{name}", name, 10, PAIRS) for name in has]
    return Atlas(build_dataset(labels, {"hits": hits, "suppression_hits": np.zeros_like(hits)}), base.manifest)


def grid(n_layers=24, n_heads=10, share=0.0, seed=0):
    return np.random.default_rng(seed).random((n_layers, n_heads)) < share


def test_spans_are_counted_from_the_grid():
    has = grid()
    has[3, 1] = has[5, :4] = has[20, 2:5] = True
    (span,) = analyse(atlas_of(Knowledge=has)).spans
    assert (span.n_heads, span.first, span.quartiles, span.last) == (8, 3, (5, 5, 20), 20)
    assert (span.densest, span.most) == ((5,), 4)


def test_a_category_without_heads():
    found = analyse(atlas_of(Knowledge=grid(), Linguistic=grid(share=0.3)))
    assert found.spans[0].first is None and found.spans[0].quartiles is None
    assert found.boundaries[1].layer is None and [each.category for each in found.arrangements] == ["Linguistic"]
    assert found.meetings == () and found.unimplemented == ("r_Knowledge",)


@pytest.mark.parametrize("boundary", [1, 7, 23])
def test_a_planted_boundary_is_found(boundary):
    has = grid()
    has[boundary:] = grid(seed=1, share=0.5)[boundary:] if boundary == 7 else True
    _, found = analyse(atlas_of(Knowledge=has)).boundaries
    assert found.layer == boundary
    assert found.early == 0 and found.late == has[boundary:].mean()
    # One odd layer of 24 lies at an end in two of 24 permutations.
    assert found.p < 0.01 if boundary == 7 else found.p == pytest.approx(2 / 24, abs=0.01)
    assert found.p_adjusted >= found.p


def test_no_boundary_in_noise():
    p = [analyse(atlas_of(Knowledge=grid(share=0.2, seed=seed))).boundaries[1].p for seed in range(20)]
    assert sum(each < 0.05 for each in p) <= 4 and max(p) > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_ratio_is_the_plain_loop_s(seed):
    has = grid(9, 7, share=0.4, seed=seed)

    def loglik(part):
        k, n = int(part.sum()), part.size
        return sum(count * log(count / n) for count in (k, n - k) if count)

    ratios = [2 * (loglik(has[:b]) + loglik(has[b:]) - loglik(has)) for b in range(1, 9)]
    layer, statistic = best_boundary(has.sum(1), 7)
    assert layer == 1 + int(np.argmax(np.round(ratios, 9))) and statistic == pytest.approx(max(ratios))


@pytest.mark.parametrize("shape", [(1, 8), (1, 1)])
def test_one_layer_has_no_boundary(shape):
    found = analyse(atlas_of(Knowledge=np.ones(shape, bool)))
    assert all(boundary.layer is None and boundary.p == 1 for boundary in found.boundaries)


def test_all_heads_classified_has_no_boundary():
    assert analyse(atlas_of(Knowledge=np.ones((5, 3), bool))).boundaries[0].layer is None


def test_overlap_in_layers_is_what_enumeration_gives():
    a, b, n_heads = [2, 1, 3], [1, 2, 3], 4

    def choices(k):
        return [set(chosen) for chosen in product(range(n_heads), repeat=k) if list(chosen) == sorted(set(chosen))]

    counts = np.zeros(7)
    for sets in product(*(product(choices(k), choices(m)) for k, m in zip(a, b, strict=True))):
        counts[sum(len(first & second) for first, second in sets)] += 1
    found = overlap_in_layers(np.array(a), np.array(b), n_heads)
    assert counts.sum() == np.prod([comb(n_heads, k) for k in a + b])
    np.testing.assert_allclose(found, counts[: len(found)] / counts.sum(), atol=1e-12)


def test_meetings_that_layers_explain_are_told_from_those_they_do_not():
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


def test_expected_meetings():
    a, b = grid(seed=1, share=0.3), grid(seed=2, share=0.2)
    (meeting,) = analyse(atlas_of(Knowledge=a, Linguistic=b)).meetings
    assert meeting.observed == (a & b).sum()
    assert meeting.expected == pytest.approx(a.sum() * b.sum() / 240)
    assert meeting.expected_in_layers == pytest.approx((a.sum(1) * b.sum(1)).sum() / 10)


def test_bands_and_rows_are_told_apart():
    band, row = grid(), grid()
    band[8:11] = True
    row[:, 4] = True
    (each,) = analyse(atlas_of(Knowledge=band)).arrangements
    assert each.by_layer == pytest.approx(1) and each.p_layer < 0.001 < 0.05 < each.p_head
    (each,) = analyse(atlas_of(Knowledge=row)).arrangements
    assert each.by_head == pytest.approx(1) and each.p_head < 0.001 < 0.05 < each.p_layer
    (each,) = analyse(atlas_of(Knowledge=grid(share=0.2, seed=5))).arrangements
    assert min(each.p_layer, each.p_head) > 0.05
    assert each.by_layer == pytest.approx(each.by_layer_chance, abs=0.1)


def test_key_value_groups():
    has = grid(24, 12)
    for layer in range(0, 24, 2):
        group = layer // 2 % 3
        has[layer, 4 * group : 4 * group + 3] = True
    (each,) = analyse(atlas_of(n_kv_heads=3, Knowledge=has)).arrangements
    assert (
        each.group_pairs == 12 * 3 and each.group_pairs_chance == pytest.approx(12 * 3 * 3 / 11) and each.p_group < 0.01
    )
    scattered = grid(24, 12)
    scattered[::2, [0, 4, 8]] = True
    (each,) = analyse(atlas_of(n_kv_heads=3, Knowledge=scattered)).arrangements
    assert each.group_pairs == 0 and each.p_group == 1
    for trivial in (None, 1, 12):
        (each,) = analyse(atlas_of(n_kv_heads=trivial, Knowledge=has)).arrangements
        assert each.group_pairs is None


def test_exceptional_heads():
    far, near = grid(), grid()
    far[2, 7] = far[10:13, 0] = True
    near[10, 0] = True
    found = analyse(atlas_of(Knowledge=far, Linguistic=near))
    assert found.apart == (("Knowledge", (2, 7), 8),)
    assert found.lone == (("r_Linguistic", (10, 0)),)
    assert found.busiest == (((10, 0), 2),)
    assert found.both == ()


def test_heads_that_promote_and_suppress():
    atlas = atlas_of(Knowledge=grid(share=0.1, seed=1))
    layer, head = (int(each[0]) for each in atlas.above()[0].nonzero())
    atlas.data["suppression"][0, layer, head] = 0.5
    atlas.data["suppression_hits"][0, layer, head] = 20
    assert analyse(atlas).both == (("r_Knowledge", (layer, head)),)


def test_the_same_atlas_gives_the_same_numbers():
    assert repr(analyse(make_atlas(seed=4))) == repr(analyse(make_atlas(seed=4)))


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]
