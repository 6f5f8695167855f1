"""An atlas in other tools' formats: a table as CSV or JSON, and a list of heads that can be ablated."""

from __future__ import annotations

import json

from headatlas.atlas import Atlas, records
from headatlas.errors import SettingsError
from headatlas.printable import plain_cell
from headatlas.reports.headvis import metrics_json

FORMATS = ("csv", "json", "heads", "headvis-json", "full-attention")

FAR = ("induction", "duplicate")
"""Ways of reading that need tokens far back: heads that do so keep full attention, as RazorAttention chooses them."""


def export(atlas: Atlas, fmt: str, side: str = "score") -> str:
    """The atlas as text.

    Args:
        fmt: `csv` (a row per relation, layer and head), `json` (the same rows as records, with the manifest),
            `heads` (JSON: for each category and relation the heads above the threshold, strongest first),
            `headvis-json` (all scores and measured attention as metrics of HeadVis), or `full-attention` (JSON: which
            heads read tokens far back, 0 or 1, a row per layer).
        side: for `heads`: `score` or `suppression`.

    A head list names each head as `[layer, head]`, counted from 0, and names its place in TransformerLens and nnsight:
    `hook_z` at index `head`, or the columns `head * d_head` to `(head + 1) * d_head` of the input of the output
    projection.
    """
    if fmt == "csv":
        table = atlas.table.copy()
        for name in ("relation", "category"):
            table[name] = table[name].map(plain_cell)
        return table.to_csv(index=False)
    if fmt == "json":
        rows = records(atlas.table)
        return json.dumps({"manifest": atlas.manifest.as_dict(), "scores": rows}, ensure_ascii=False) + "\n"
    if fmt == "heads":
        return json.dumps(_head_list(atlas, side), indent=1, ensure_ascii=False) + "\n"
    if fmt == "headvis-json":
        return metrics_json(atlas)
    if fmt == "full-attention":
        return json.dumps(_full_attention(atlas), ensure_ascii=False) + "\n"
    raise SettingsError(f"format: expected one of {', '.join(FORMATS)}, found {fmt!r}.")


def _head_list(atlas: Atlas, side: str) -> dict:
    rows = atlas.heads(side=side)

    def places(chosen) -> list[list[int]]:
        return chosen[["layer", "head"]].drop_duplicates().to_numpy().tolist()

    return {
        "model": atlas.name,
        "side": side,
        "threshold": atlas.threshold,
        "measure": atlas.measure,
        "label": atlas.label,
        "n_layers": atlas.n_layers,
        "n_heads": atlas.n_heads,
        "d_head": atlas.manifest.model.d_head,
        "transformer_lens": {"hook": "blocks.{layer}.attn.hook_z", "index": "[:, :, head]"},
        "nnsight": {"input_of": "the layer's output projection", "columns": "head * d_head : (head + 1) * d_head"},
        "categories": {name: places(group) for name, group in rows.groupby("category", sort=False)},
        "relations": {name: places(group) for name, group in rows.groupby("relation", sort=False)},
    }


def _full_attention(atlas: Atlas) -> dict:
    """The heads that need the whole context, as 0 or 1 by layer; by key-value head it is 1 if any of its heads is."""
    import numpy as np

    from headatlas.analysis.reading import measured_reading

    reading = measured_reading(atlas)
    far = np.any([reading.of(name) for name in FAR], axis=0)
    size = atlas.heads_per_group
    groups = None if size is None else far.reshape(atlas.n_layers, -1, size).any(2).astype(int).tolist()
    return {
        "model": atlas.name,
        "behaviours": {name: reading.limits[name] for name in FAR},
        "full_attention_heads": groups,
        "query_heads": far.astype(int).tolist(),
    }
