"""HeadVis' metrics of a model's heads become evidence of its atlas, under their own names."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.atlas.evidence import HeadVisFacts
from headatlas.atlas.headvis import METRICS, SHARES
from headatlas.bounded_json import TooLarge, parse_bounded
from headatlas.errors import AtlasError
from headatlas.measuring.output import add_evidence
from headatlas.printable import printable
from headatlas.regular_files import read_regular

if TYPE_CHECKING:
    import pandas as pd

    from headatlas.atlas import Atlas

SCATTER, CONFIG = "scatter_data.json", "config.json"

MOST_BYTES, MOST_VALUES = 200_000_000, 1_000_000
MOST_LETTERS = 200
"""Of a name that is kept."""

MOST_NUMBER = 10**15

NEAR = 0.01
"""By how much a share may leave 0 to 1: the sums of numbers with few bits."""


def import_headvis(atlas: Atlas, path: str | Path) -> Atlas:
    """Keep HeadVis' metrics in the atlas, as its evidence `headvis`.

    Args:
        atlas: of the same model, which is only compared by its numbers of layers and heads: the files hold no hash.
        path: a JSON file with `config` and `metrics`; a list of heads (`scatter_data.json`); or a folder with that list
            and `config.json`.

    Returns:
        The atlas with a row for each head: `layer`, `head`, and the six metrics, empty where there are none.

    Raises:
        AtlasError: not such a file, other numbers of layers or heads, or a value that is out of range.

    >>> atlas = import_headvis(atlas, "headvis/pile.json")
    >>> atlas.evidence("headvis").columns[:3].tolist()
    ['layer', 'head', 'self_attention_score']
    """
    path = Path(path)
    file = path / SCATTER if path.is_dir() else path
    content, sha256 = _read(file)
    beside = file.with_name(CONFIG)
    config: Any = None
    if isinstance(content, dict):
        config, table = content.get("config"), _from_metrics(atlas, file, content.get("metrics"))
    elif isinstance(content, list):
        if file.name == SCATTER and beside.is_file():
            config, _ = _read(beside)
        table = _from_rows(atlas, file, content)
    else:
        raise AtlasError(
            f"{file}: expected an object with 'config' and 'metrics' or a list of heads, found "
            f"{printable(type(content).__name__)}. Is this a file of HeadVis?"
        )
    known, columns = _flat(config), {name: table[name].notna().to_numpy() for name in METRICS}
    facts = HeadVisFacts(
        file=file.name,
        sha256=sha256,
        model=_name(known.get("model_name")),
        dataset=_name(known.get("dataset_name")),
        sequences=_whole(known.get("actual_sequences_processed", known.get("n_sequences"))),
        tokens=_whole(known.get("seq_len")),
        metrics=tuple(name for name, there in columns.items() if there.any()),
        tool=__version__,
    )
    if not facts.metrics:
        raise AtlasError(f"{file}: expected at least one of {', '.join(METRICS)}, found none.")
    return add_evidence(atlas, {"headvis": (table, facts)})


def _read(file: Path) -> tuple[Any, str]:
    """A JSON file's content and SHA-256."""
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise AtlasError(f"{file}: expected at most {MOST_BYTES:,} bytes, found {size:,}.")
        data = read_regular(file)
        return parse_bounded(data, MOST_VALUES), hashlib.sha256(data).hexdigest()
    except FileNotFoundError as error:
        raise AtlasError(f"{file}: expected metrics of HeadVis, found nothing there.") from error
    except OSError as error:
        raise AtlasError(f"{file}: cannot be read ({error.strerror or error}).") from error
    except TooLarge as error:
        raise AtlasError(f"{file}: expected {error}. Is this a file of HeadVis?") from error
    except (ValueError, RecursionError) as error:
        raise AtlasError(f"{file}: expected JSON, found something else ({printable(error)}).") from error


def _from_metrics(atlas: Atlas, file: Path, metrics: Any) -> pd.DataFrame:
    """From a list of layers, each a list of heads, by metric."""
    if not isinstance(metrics, dict):
        raise AtlasError(f"{file}: expected 'metrics' of each head, found none. Is this a file of HeadVis?")
    found = {}
    for name in METRICS:
        layers = metrics.get(name)
        if layers is None:
            found[name] = [math.nan] * (atlas.n_layers * atlas.n_heads)
            continue
        if not isinstance(layers, list) or not all(isinstance(heads, list) for heads in layers):
            raise AtlasError(f"{file}: expected a list of heads for each layer in {name!r}, found something else.")
        sizes = {len(heads) for heads in layers}
        if len(layers) != atlas.n_layers or sizes != {atlas.n_heads}:
            shown = " or ".join(map(str, sorted(sizes)[:3])) or "0"
            raise AtlasError(
                f"{file}: expected {atlas.n_layers} layers x {atlas.n_heads} heads as in {atlas.name}, found "
                f"{len(layers)} x {shown} in {name!r}. Is this the same model?"
            )
        found[name] = [
            _value(file, name, value, f"L{layer}H{head}")
            for layer, heads in enumerate(layers)
            for head, value in enumerate(heads)
        ]
    return _table(atlas, found)


def _from_rows(atlas: Atlas, file: Path, rows: list[Any]) -> pd.DataFrame:
    """From one object for each head."""
    n_places = atlas.n_layers * atlas.n_heads
    found = {name: [math.nan] * n_places for name in METRICS}
    seen: set[int] = set()
    for number, row in enumerate(rows):
        where = f"{file}: entry {number}"
        if not isinstance(row, dict):
            raise AtlasError(f"{where}: expected an object with 'layer' and 'head', found something else.")
        layer, head = row.get("layer"), row.get("head")
        for key, value, size in (("layer", layer, atlas.n_layers), ("head", head, atlas.n_heads)):
            if type(value) is not int or not 0 <= value < size:
                raise AtlasError(
                    f"{where}: expected a {key!r} from 0 to {size - 1} as in {atlas.name}, found "
                    f"{printable(repr(value))[:MOST_LETTERS]}. Is this the same model?"
                )
        assert isinstance(layer, int) and isinstance(head, int)
        place = layer * atlas.n_heads + head
        if place in seen:
            raise AtlasError(f"{where}: expected each head once, found L{layer}H{head} again.")
        seen.add(place)
        for name in METRICS:
            found[name][place] = _value(file, name, row.get(name), f"L{layer}H{head}")
    missing = [place for place in range(n_places) if place not in seen and atlas.has_heads[place // atlas.n_heads]]
    if missing:
        layer, head = divmod(missing[0], atlas.n_heads)
        raise AtlasError(f"{file}: expected every head of {atlas.name}, found no L{layer}H{head}.")
    return _table(atlas, found)


def _table(atlas: Atlas, found: dict[str, list[float]]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    layers = np.repeat(np.arange(atlas.n_layers), atlas.n_heads)
    table: Any = pd.DataFrame({"layer": layers, "head": np.tile(np.arange(atlas.n_heads), atlas.n_layers), **found})
    return table[atlas.has_heads[layers]].reset_index(drop=True)


def _value(file: Path, name: str, value: Any, head: str) -> float:
    """A metric of a head; NaN if it is not known."""
    if value is None:
        return math.nan
    highest = 1 + NEAR if name in SHARES else math.inf
    if type(value) in (int, float):
        number = math.inf if abs(value) > MOST_NUMBER else float(value)
        if math.isnan(number):
            return math.nan
        # The variance is the difference of two means, and can fall below 0 by their rounding.
        if (number >= -NEAR or name == "qk_distance_variance") and number <= highest and math.isfinite(number):
            return number
    expected = "a share from 0 to 1" if name in SHARES else "a number that is not negative"
    raise AtlasError(
        f"{file}: {head}: expected {expected} for {name!r}, found {printable(repr(value))[:MOST_LETTERS]}."
    )


def _flat(config: Any) -> dict[str, Any]:
    """A run's settings; those of the pipeline may lie one level deeper."""
    if not isinstance(config, dict):
        return {}
    inner = config.get("pipeline_config")
    return config | inner if isinstance(inner, dict) else config


def _name(value: Any) -> str | None:
    return printable(value)[:MOST_LETTERS] if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value < 2**53 else None
