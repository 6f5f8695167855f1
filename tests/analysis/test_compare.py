"""What two atlases have in common, what changed, and which are not comparable."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from atlases import make_atlas, with_manifest, with_settings
from headatlas import compare_atlases
from headatlas.analysis.compare import head_names
from headatlas.atlas import build_dataset, save_atlas
from headatlas.cli import app
from headatlas.errors import AtlasError
from headatlas.figures import draw_comparison, render


def changed(atlas, name="tuned", **places):
    """A copy whose hits at (relation, layer, head) are those given."""
    copy = make_atlas(n_layers=5, n_heads=3, name=name)
    hits = atlas.data["hits"].values.copy()
    for place, count in places["hits"].items():
        hits[place] = count
    labels = [(str(r), str(c), 10, 40) for r, c in zip(atlas.relations, atlas.data["category"].values, strict=True)]
    counts = {"hits": hits, "suppression_hits": atlas.data["suppression_hits"].values}
    data = build_dataset(labels, counts, atlas.validity)
    return replace(copy, data=data)


@pytest.fixture
def base():
    return make_atlas(n_layers=5, n_heads=3, name="base")


def test_gained_and_lost_heads_and_the_largest_change(base):
    knowledge = base.above()[1]
    lost, gained = tuple(np.argwhere(knowledge)[0]), tuple(np.argwhere(~knowledge)[0])
    tuned = changed(base, hits={(1, *lost): 0, (1, *gained): 39})
    found = compare_atlases(base, tuned)
    _, _, change, *_ = found.categories
    assert change.category == "Knowledge" and change.first == change.second == knowledge.sum()
    assert head_names(change.gained) == [f"L{gained[0]}H{gained[1]}"]
    assert head_names(change.lost) == [f"L{lost[0]}H{lost[1]}"]
    same, relation, *_ = found.relations
    assert (same.head, same.pearson) == (None, pytest.approx(1))
    before, after = base.scores.values[1], tuned.scores.values[1]
    assert relation.pearson == pytest.approx(np.corrcoef(before.ravel(), after.ravel())[0, 1])
    assert relation.head == gained and relation.after == 39 / 40 and relation.before == before[gained]
    json.dumps(found.as_dict())


def test_scores_that_are_all_the_same_have_no_correlation(base):
    flat = changed(base, hits={(0,): 4})
    assert compare_atlases(base, flat).relations[0].pearson is None


def test_layers_without_heads_take_no_part():
    base, tuned = (make_atlas(n_layers=5, n_heads=3, without_heads=(2,), seed=seed) for seed in (0, 1))
    found = compare_atlases(base, tuned)
    assert found.n_heads == 12 and all(np.isfinite(each.pearson) for each in found.relations)
    assert all(each.head[0] != 2 for each in found.relations)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda atlas: with_manifest(atlas, measure="in-context"),
            "expected the same measure, found weights in the",
        ),
        (
            lambda atlas: with_settings(atlas, k=5),
            "same k, found 10 in the first atlas and 5 in the",
        ),
        (
            lambda atlas: with_settings(atlas, threshold="0.3"),
            "and 0.3 in the second. Give one value for",
        ),
        (
            lambda atlas: with_manifest(atlas, identity={"relations": "x"}),
            "expected the same pairs of tokens",
        ),
    ],
)
def test_what_differs_is_refused(base, change, sentence):
    other = change(make_atlas(n_layers=5, n_heads=3, name="other"))
    with pytest.raises(AtlasError) as caught:
        compare_atlases(base, other)
    assert sentence in str(caught.value)


def test_other_shapes_and_relations_are_refused(base):
    with pytest.raises(AtlasError, match="same layers x heads, found 5 x 3 in the first atlas and 7 x 3 in the second"):
        compare_atlases(base, make_atlas(n_layers=7, n_heads=3))
    fewer = make_atlas(n_layers=5, n_heads=3, categories=("Algorithmic", "Knowledge"))
    with pytest.raises(AtlasError, match="same relations, found 'linguistic_relation' only in one of them"):
        compare_atlases(base, fewer)


def test_a_given_threshold_holds_for_both(base):
    other = with_settings(make_atlas(n_layers=5, n_heads=3), threshold="0.3")
    found = compare_atlases(base, other, threshold="0.5")
    assert found.threshold == "0.5" and found.categories[1].first == base.above("0.5")[0].sum()


def test_the_command_prints_tables_json_and_a_picture(base, tmp_path):
    folders = [str(save_atlas(atlas, tmp_path / atlas.name)) for atlas in (base, changed(base, hits={(1, 0, 0): 40}))]
    result = CliRunner().invoke(app, ["compare", *folders])
    assert result.exit_code == 0 and "From base to tuned" in result.stdout and "L0H0" in result.stdout
    result = CliRunner().invoke(app, ["compare", *folders, "--json", "-o", str(tmp_path / "changes.png")])
    assert json.loads(result.stdout)["categories"][2]["category"] == "Knowledge"
    assert (tmp_path / "changes.png").read_bytes()[:4] == b"\x89PNG"


def test_the_picture_shows_every_change_in_its_colour(base):
    figure = draw_comparison(compare_atlases(base, changed(base, hits={(1, 0, 0): 40, (1, 1, 1): 0})))
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == 5 and all(image.shape == (3, 5, 3) for image in images)
    assert render(figure, "png")[:4] == b"\x89PNG"
