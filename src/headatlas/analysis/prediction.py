"""How well the attention of an atlas's heads is predicted from each token alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas

GOOD = 0.5
"""Agreement above which predicted attention is a fair picture of a head's real attention."""


@dataclass(frozen=True)
class Prediction:
    """The agreement of predicted with real attention scores; arrays Float64[ndarray, "layer head"].

    Args:
        agreement: Pearson's correlation, -1 to 1; NaN where nothing was measured.
        control: that of a prediction from the tokens in shuffled order.
    """

    agreement: np.ndarray
    control: np.ndarray

    @property
    def mean(self) -> float:
        """Over heads."""
        import numpy as np

        return float(np.nanmean(self.agreement))

    @property
    def control_mean(self) -> float:
        """Over heads."""
        import numpy as np

        return float(np.nanmean(self.control))

    @property
    def good(self) -> float:
        """The share of heads with an agreement above GOOD."""
        import numpy as np

        return float((self.agreement > GOOD).sum() / np.isfinite(self.agreement).sum())


def find_prediction(atlas: Atlas) -> Prediction | None:
    """The agreement of an atlas's heads; None if it was not measured."""
    import numpy as np

    table: Any = atlas.evidence("attention")
    rows = None if table is None else table[table["behaviour"] == "agreement"]
    if rows is None or not rows["value"].notna().any():
        return None
    found = {name: np.full((atlas.n_layers, atlas.n_heads), np.nan) for name in ("value", "chance")}
    for name, array in found.items():
        array[rows["layer"].to_numpy(), rows["head"].to_numpy()] = rows[name]
    return Prediction(found["value"], found["chance"])
