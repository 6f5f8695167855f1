"""Others' scores: the published ones, and every way in which a table can be wrong."""

from pathlib import Path

import pytest

from headatlas.analysis.categories import classify
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring.import_scores import import_scores

PYTHIA = Path(__file__).parents[3] / "shared" / "reference" / "pythia-6.9b-scores.csv"
ROWS = ["r,C,0,0,0.5", "r,C,0,1,0.25", "r,C,1,0,0", "r,C,1,1,1"]


def write(folder, rows=ROWS, header="relation,category,layer,head,score"):
    path = folder / "s.csv"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


@pytest.mark.skipif(not PYTHIA.exists(), reason="the published scores are not part of the project")
def test_published_scores_of_pythia_are_classified_as_published():
    atlas = import_scores(PYTHIA, "attention-fixed", name="Pythia 6.9B")
    found = classify(atlas)
    assert (atlas.n_layers, atlas.n_heads, len(atlas.relations)) == (32, 32, 15)
    assert found.n_classified == 176
    assert [found.only(name) for name in found.categories] == [38, 37, 67]
    assert [int((found.count == n).sum()) for n in (2, 3)] == [26, 8]
    assert [int(found.of(name).sum()) for name in found.categories] == [68, 62, 88]


def test_scores_without_suppression(tmp_path):
    atlas = import_scores(write(tmp_path), "in-context")
    assert atlas.name == "s" and atlas.measure == "in-context" and atlas.label == "imported: in-context"
    assert not atlas.has_suppression and not atlas.counts_known
    assert atlas.scores.values.tolist() == [[[0.5, 0.25], [0, 1]]]
    assert atlas.table[["k", "pairs", "hits"]].isna().all().all()
    assert atlas.manifest.imported.sha256


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ROWS,
            "relation,category,layer,head,value",
            "expected the columns relation, category, layer, head, score, found no 'score'.",
        ),
        ([], None, "expected a row per relation, layer and head, found none."),
        ([*ROWS[:3], "r,C,1,1,1.5"], None, "line 5: expected a share from 0 to 1 in 'score', found '1.5'."),
        ([*ROWS[:3], "r,C,1,1,nan"], None, "line 5: expected a share from 0 to 1 in 'score', found 'nan'."),
        ([*ROWS[:3], "r,C,1,1,"], None, "line 5: expected a share from 0 to 1 in 'score', found 'nan'."),
        (["r,C,0.5,0,1", *ROWS[1:]], None, "line 2: expected a whole number from 0 to 99,999 in 'layer', found '0.5'."),
        (
            ["r,C,0,99999999999,1", *ROWS[1:]],
            None,
            "line 2: expected a whole number from 0 to 99,999 in 'head', found '99999999999'.",
        ),
        (["r,D,0,0,1", *ROWS[1:]], None, "expected one category per relation, found several for 'r'."),
        ([",C,0,0,1", *ROWS[1:]], None, "line 2: expected up to 100 printable characters in 'relation', found <NA>."),
        (
            ["r\x1b[1m,C,0,0,1", *ROWS[1:]],
            None,
            "line 2: expected up to 100 printable characters in 'relation', found 'r\\x1b[1m'.",
        ),
        (
            [f"r,{'c' * 101},0,0,1", *ROWS[1:]],
            None,
            f"line 2: expected up to 100 printable characters in 'category', found '{'c' * 101}'.",
        ),
        (
            ROWS[:3],
            None,
            "scores: expected one row for each of 1 relations x 2 layers x 2 heads (4 rows), "
            "found 3 rows, 1 places without one.",
        ),
        (
            [*ROWS, "r,C,99999,99999,1"],
            None,
            "scores: expected one row for each of 1 relations x 100000 layers x 100000 heads (10000000000 rows), "
            "found 5 rows, 9999999995 places without one.",
        ),
    ],
)  # fmt: skip
def test_bad_tables(tmp_path, rows, header, message):
    path = write(tmp_path, rows, header or "relation,category,layer,head,score")
    with pytest.raises(AtlasError) as caught:
        import_scores(path, "weights")
    assert str(caught.value) == f"{path}: {message}"


def test_nothing_there_and_no_table(tmp_path):
    with pytest.raises(AtlasError, match="expected a CSV file of scores, found nothing there"):
        import_scores(tmp_path / "no.csv", "weights")
    (tmp_path / "b.csv").write_bytes(b"\xff\x00" * 100)
    with pytest.raises(AtlasError, match="cannot be read as a CSV table"):
        import_scores(tmp_path / "b.csv", "weights")
    with pytest.raises(SettingsError, match="measure: expected one of weights, attention-fixed, in-context, found 'x'"):
        import_scores(write(tmp_path), "x")
