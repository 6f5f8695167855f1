"""How far imported metrics of HeadVis agree with what was measured here, head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

ALIKE = {"previous": "prev_token_score", "self": "self_attention_score", "induction": "induction_score"}
"""Behaviours on text, and the metric whose definition is nearest."""

FEWEST = 3
"""Fewest heads for a correlation."""


def compare_with_headvis(atlas: Atlas) -> dict[str, float]:
    """Pearson's correlation over heads, -1 to 1, by behaviour; without those that are not known.

    Empty if one of both was not measured.
    """
    import numpy as np

    theirs: Any = atlas.evidence("headvis")
    ours: Any = atlas.evidence("attention")
    if theirs is None or ours is None:
        return {}
    found = {}
    for behaviour, metric in ALIKE.items():
        rows = ours[(ours["input"] == "text") & (ours["behaviour"] == behaviour)]
        both = rows.merge(theirs, on=["layer", "head"])[["value", metric]].dropna().to_numpy()
        if len(both) >= FEWEST and (both.std(0) > 0).all():
            found[behaviour] = float(np.corrcoef(both.T)[0, 1])
    return found
