"""Heads that share a key-value head, compared with the other heads of their layer."""

import itertools

import numpy as np
import pytest

from atlases import make_atlas, with_model
from headatlas.analysis.findings import analyse
from headatlas.analysis.group_similarity import find_group_similarity
from headatlas.reports.report import write_report


def scores(n_layers, n_heads, seed=0):
    return np.random.default_rng(seed).random((12, n_layers, n_heads)) ** 4


def test_heads_of_a_group_that_do_the_same_are_found():
    alike = scores(6, 9)
    alike[:, :, 1::3] = alike[:, :, ::3] * 0.7 + 0.1 * alike[:, :, 1::3]
    found = find_group_similarity(alike, 3, seed=0)
    assert found.within > found.between + 0.1 and found.p_value < 0.001
    turned = find_group_similarity(alike[:, :, [3, 4, 5, 0, 1, 2, 8, 7, 6]], 3, seed=0)
    assert turned.within == pytest.approx(found.within) and turned.between == pytest.approx(found.between)


def test_random_heads_are_not():
    p = [find_group_similarity(scores(6, 9, seed), 3, 0, 499).p_value for seed in range(20)]
    assert sum(each < 0.05 for each in p) <= 4 and max(p) > 0.5


def test_the_p_value_is_that_of_all_arrangements():
    one = scores(1, 4, seed=3)
    found = find_group_similarity(one, 2, 0)
    vectors = one[:, 0].T / np.linalg.norm(one[:, 0].T, axis=1, keepdims=True)

    def within(order):
        return np.mean([vectors[order[0]] @ vectors[order[1]], vectors[order[2]] @ vectors[order[3]]])

    every = [within(order) >= within(range(4)) - 1e-12 for order in itertools.permutations(range(4))]
    assert found.within == pytest.approx(within(range(4)))
    assert found.p_value == pytest.approx(np.mean(every), abs=0.02)


@pytest.mark.parametrize("size", [None, 1, 9])
def test_without_several_groups_of_several_heads_nothing_is_said(size):
    assert find_group_similarity(scores(6, 9), size, 0) is None
    assert find_group_similarity(np.zeros((3, 4, 9)), 3, 0) is None


def test_the_report_says_it():
    atlas = make_atlas(6, 9)
    assert "Heads of one group do not clearly implement more alike relations" in write_report(atlas)
    assert analyse(with_model(atlas, n_kv_heads=None)).group_similarity is None
    assert "Heads of one group" not in write_report(with_model(atlas, n_kv_heads=9))
