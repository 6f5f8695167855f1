"""The agreement of predicted attention over heads."""

import numpy as np
import pytest

from atlases import make_atlas, make_attention
from headatlas.analysis.prediction import find_prediction


def test_means_and_the_share_of_good_heads():
    atlas = make_attention(make_atlas(3, 2))
    table = atlas.evidence("attention")
    rows = table[table["behaviour"] == "entropy"].assign(behaviour="agreement", chance=0.25)
    rows["value"] = [0.9, 0.7, 0.5, 0.1, np.nan, 0.8]
    facts = atlas.manifest.evidence.attention
    found = find_prediction(atlas.with_evidence({"attention": (rows, facts)}))
    assert found.agreement.shape == (3, 2) and found.agreement[1, 1] == 0.1
    assert (found.mean, found.control_mean, found.good) == pytest.approx((0.6, 0.25, 3 / 5))


def test_nothing_is_found_where_nothing_was_predicted():
    atlas = make_atlas(3, 2)
    assert find_prediction(atlas) is None
    assert find_prediction(make_attention(atlas)) is None
