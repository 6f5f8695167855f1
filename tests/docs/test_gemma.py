"""What README says of Gemma 3 270M is so."""

import numpy as np
import pytest

import headatlas
from documented import README, check_heads_of
from needs import find_gemma

pytestmark = pytest.mark.system


def test_what_the_readme_tells_of_gemma_is_so():
    atlas = headatlas.map_heads(find_gemma(), salient=False)
    readme = " ".join(README.read_text("utf-8").split())
    found, strict = headatlas.classify(atlas), headatlas.classify(atlas, rule="calibrated")
    assert f"{found.n_classified} of {found.n_heads} heads implement a relation" in readme
    assert f"none of them before layer {np.flatnonzero(found.count.any(1)).min()}" in readme
    assert f"{strict.n_classified} beyond chance and beyond copying" in readme
    several = [(11, 2), (12, 1), (12, 2), (12, 3), (15, 3)]
    plain, beyond = (
        [int(each.implements[:, layer, head].sum()) for layer, head in several] for each in (found, strict)
    )
    assert f"{min(plain)} to {max(plain)} of {len(atlas.relations)} relations" in readme
    assert f"({min(beyond)} to {max(beyond)} beyond chance and copying)" in readme
    check_heads_of(
        atlas, ("country_to_capital", "L12H2"), ("us_city_to_state", "L15H3"), ("noun_to_pronoun", "L14H3")
    )  # fmt: skip
