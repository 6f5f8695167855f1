"""An atlas as per-head metrics of HeadVis: what is measured here, under names of its own.

HeadVis' six metrics are those of its own files only: where they were imported, they are handed on as they came.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.analysis.reading import BEHAVIOURS, find_reading
from headatlas.analysis.removal import find_removal
from headatlas.atlas.headvis import METRICS
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas

PREFIX = "headatlas_"


def head_metrics(atlas: Atlas) -> dict[str, tuple[str, np.ndarray]]:
    """By name, what the metric is and its values, (layer, head); NaN where nothing was measured."""
    return dict(_metrics(atlas))


def _metrics(atlas: Atlas) -> Iterator[tuple[str, tuple[str, np.ndarray]]]:
    import numpy as np

    shape, without = (atlas.n_layers, atlas.n_heads), ~atlas.has_heads
    table: Any = atlas.evidence("headvis")
    if table is not None:
        for name, what in METRICS.items():
            values = np.full(shape, np.nan)
            values[table["layer"], table["head"]] = table[name]
            yield name, (what, values)
    for at, relation in enumerate(atlas.relations):
        values = np.array(atlas.share("score").values[at], dtype=float)
        values[without] = np.nan
        category = str(atlas.data["category"].values[at])
        what = (
            f"Share of the pairs of {relation} ({category}) whose target is among the highest logits ({atlas.measure})."
        )
        yield f"{PREFIX}score_{relation}", (what, values)
    if (reading := find_reading(atlas)) is not None:
        for number, each in enumerate(BEHAVIOURS):
            on = "repeated random tokens" if each.input == "random" else "text"
            what = f"Share of attention on {each.looks}, on {on}; only tokens that have one count, and no first token"
            what += "." if each.name != "sink" else " as looker."
            yield f"{PREFIX}reads_{each.name}", (what, reading.value[number])
    if (removal := find_removal(atlas)) is not None:
        values = np.full(shape, np.nan)
        for place, fall in removal.falls.items():
            values[place] = fall.value
        what = "Fall of the probability of repeated random tokens without the head."
        yield f"{PREFIX}copying_lost", (what, values)


def metrics_json(atlas: Atlas) -> str:
    """One JSON object: `config`, and `metrics` with a list of heads for each layer."""
    metrics = {
        name: [[_plain(value) for value in heads] for heads in values]
        for name, (_, values) in head_metrics(atlas).items()
    }
    return json.dumps({"config": _config(atlas), "metrics": metrics}, ensure_ascii=False, allow_nan=False) + "\n"


def write_tree(atlas: Atlas, folder: str | Path) -> Path:
    """Write the folder that HeadVis shows: `config.json`, `scatter_data.json` and what it needs to stand alone.

    There are no sequences of single heads, which an atlas does not hold.

    Raises:
        AtlasError: the folder cannot be written.
    """
    folder, metrics = Path(folder), head_metrics(atlas)
    places = [
        (layer, head) for layer in range(atlas.n_layers) if atlas.has_heads[layer] for head in range(atlas.n_heads)
    ]
    rows = [
        {"layer": layer, "head": head, **{name: _plain(each[layer, head]) for name, (_, each) in metrics.items()}}
        for layer, head in places
    ]
    config = _config(atlas) | {
        "heads": [list(place) for place in places],
        "metrics": list(metrics),
        "metric_descriptions": {name: what for name, (what, _) in metrics.items()},
        "head_data_pattern": "L{layer}H{head}.json",
        "has_umap": False,
        "umap_heads": [],
        "custom_plots": [],
        "custom_tables": [],
        "statistics_display": {},
    }
    files = {
        "config.json": config,
        "server_config.json": {},
        "attributions/manifest.json": {},
        "scatter_data.json": rows,
    }
    try:
        for name, content in files.items():
            text = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, lambda path, text=text: path.write_text(text, "utf-8"))
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    return folder


def _config(atlas: Atlas) -> dict[str, Any]:
    """Names and numbers; of HeadVis' own run, where its metrics were imported."""
    facts = atlas.manifest.evidence.headvis
    known = {
        "model_name": atlas.name,
        "dataset_name": "headatlas",
        "n_layers": atlas.n_layers,
        "n_heads": atlas.n_heads,
    }
    known |= {"headatlas": {"version": __version__, "label": atlas.label, "threshold": atlas.threshold}}
    if facts is not None:
        known |= {
            key: value
            for key, value in (
                ("model_name", facts.model),
                ("dataset_name", facts.dataset),
                ("n_sequences", facts.sequences),
                ("seq_len", facts.tokens),
            )
            if value is not None
        }
    return known


def _plain(value: float) -> float | None:
    """A number as JSON knows it."""
    return None if math.isnan(value) else round(float(value), 6)
