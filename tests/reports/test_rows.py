"""The rows of short tables."""

from atlases import make_atlas
from headatlas.reports.rows import category_rows, strongest_rows


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


def test_layers_without_heads_are_no_part_of_a_share():
    atlas = make_atlas(n_layers=6, n_heads=5, without_heads=(0, 1, 4))
    rows = {row[0]: row for row in category_rows(atlas)}
    assert int(rows["Any"][1]) + int(rows["Unclassified"][1]) == 15
    knowledge = int(rows["Knowledge"][1])
    assert rows["Knowledge"][2] == f"{100 * knowledge / 15:.1f} %"
