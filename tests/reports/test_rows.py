"""The rows of short tables."""

from atlases import make_atlas
from headatlas.reports import category_rows, strongest_rows


def test_rows_for_the_terminal():
    atlas = make_atlas(seed=1, unmeasured=("Rare",))
    rows = category_rows(atlas)
    assert [row[0] for row in rows] == [
        *sorted(["Algorithmic", "Knowledge", "Linguistic", "Translation"]),
        "Rare",
        "Any",
        "Unclassified",
    ]
    assert int(rows[-1][1]) + int(rows[-2][1]) == 270
    best = {row[0]: row for row in strongest_rows(atlas)}
    scores = atlas.scores.sel(relation="knowledge_relation").values
    name, share = best["knowledge_relation"][2:]
    layer, head = (int(part) for part in name[1:].split("H"))
    assert scores[layer, head] == scores.max() and share == f"{scores.max():.2f}"
    assert best["rare_words"][2] == "not measurable"
    assert len(strongest_rows(atlas, most=3)[0][2].split(", ")) == 3
