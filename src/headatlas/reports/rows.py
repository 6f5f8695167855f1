"""The short tables that terminal and report share."""

from __future__ import annotations

from headatlas.analysis.categories import Classification, classify
from headatlas.atlas import Atlas, head_name
from headatlas.reports.text import percent


def category_rows(atlas: Atlas, found: Classification | None = None) -> list[list[str]]:
    """A row per category (name, heads, share of all heads, heads with it alone), then classified and unclassified."""
    found = classify(atlas) if found is None else found
    rows = []
    for category in found.categories:
        heads = int(found.of(category).sum())
        rows.append([category, str(heads), percent(heads / found.n_heads), str(found.only(category))])
    rows += [[category, "not measurable", "", ""] for category in found.unmeasured]
    rest = found.n_heads - found.n_classified
    rows.append(["Any", str(found.n_classified), percent(found.n_classified / found.n_heads), "-"])
    rows.append(["Unclassified", str(rest), percent(rest / found.n_heads), "-"])
    return rows


def strongest_rows(atlas: Atlas, side: str = "score", most: int = 1) -> list[list[str]]:
    """For each relation its strongest heads (relation, category, head, score); relations not measured say so."""
    import numpy as np

    scores, rows = atlas.share(side).fillna(0).values, []
    measured = {name: number for number, name in enumerate(atlas.relations)}
    for item in atlas.manifest.relations.items:
        name, category = item.relation, item.category
        if name not in measured:
            rows.append([name, category, "not measurable", ""])
            continue
        of_relation = scores[measured[name]]
        # Stable: of equal scores the earlier layer comes first.
        best = np.argsort(-of_relation, axis=None, kind="stable")[:most]
        best = [index for index in best if of_relation.flat[index] > 0]
        places = [np.unravel_index(index, of_relation.shape) for index in best]
        names = ", ".join(head_name(int(layer), int(head)) for layer, head in places)
        shares = ", ".join(f"{of_relation[place]:.2f}" for place in places)
        rows.append([name, category, names or "none", shares or "0.00"])
    return rows
