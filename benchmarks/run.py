"""The benchmark: a table that compares the map with the plain loop and with the work that no program can avoid.

A row is measured in rounds. In each round, one process makes the map, and another measures the floor, the hits' column
and the plain loop over some heads on the same files, so that a row is measured on one machine. Figures are medians over
the rounds; the figure of the loop is the mean over all heads that it covered.

Rows that are not run keep their figures in the file of results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from apart import run_apart
from headatlas.checkpoints.open import demo_model
from measures import BoundsRun, MapRun, measure_bounds, measure_map, model_size
from shapes import SHAPES, HitShares, Shape, checkpoint_of

DEMO = "demo"
ROWS = {name: (name, "maps") for name in (DEMO, *SHAPES)} | {
    f"{name}-alone": (name, "alone") for name in (DEMO, "llama-3.1-8b", "llama-70b")
}
"""Row -> model and profile."""

LOOPED_HEADS = 6
"""Heads that the plain loop covers, because all heads would take hours. For the demo model it covers all heads."""

START, END = "<!-- made by benchmarks/run.py -->", "<!-- end -->"
PACKAGES = ("headatlas", "torch", "transformers", "safetensors", "gguf", "numpy")

Row = dict[str, Any]


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = _parse(given)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    path = Path(options.output)
    rows: dict[str, Row] = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else {}
    try:
        for name, row in measure_rows(options):
            rows[name] = row
            path.write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")
    except KeyboardInterrupt:
        print("\nInterrupted; finished rows are kept, and the checkpoints are removed.", file=sys.stderr)
        return 130
    table = markdown_table(list(rows.values()))
    print(table)
    if options.docs:
        put_into(Path(options.docs), table)
    return 1 if any(rows[name]["different"] for name in options.rows) else 0


def measure_rows(options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Measure the chosen rows; the share of hits of the demo model decides how many hits are planted in the others."""
    source = str(demo_model())
    shares: dict[str, HitShares] = {}
    for name in options.rows:
        model, profile = ROWS[name]
        if model == DEMO:
            row, run = measure_row(DEMO, source, options, profile)
            shares[profile] = run.shares()
        else:
            if profile not in shares:
                _report(f"{name}: mapping the demo model for its share of hits")
                shares[profile] = run_apart(measure_map, source, options.threads, profile)[0].shares()
            row = measure_shape(SHAPES[model], shares[profile], options, profile)
        yield name, row | {"name": name}


def measure_shape(shape: Shape, shares: HitShares, options: argparse.Namespace, profile: str = "maps") -> Row:
    """The row of a checkpoint that is written for the measurement and removed afterwards."""
    _report(f"{shape.name}: writing the checkpoint")
    with checkpoint_of(shape, shares, options.layers, Path(options.scratch), profile) as folder:
        return measure_row(shape.name, str(folder), options, profile, shape.n_layers, shares.mean)[0]


def measure_row(
    name: str,
    source: str,
    options: argparse.Namespace,
    profile: str = "maps",
    n_layers: int | None = None,
    wanted: float | None = None,
) -> tuple[Row, MapRun]:
    """A row of the table, and the last map.

    Args:
        profile: of the map.
        n_layers: of the real model, if the checkpoint may have fewer.
        wanted: the planted share of hits.
    """
    size = model_size(source, profile)
    looped = choose_heads(size["n_layers"], size["n_heads"], _n_looped(name, options), options.layers)
    maps, bounds = [], []
    for number in range(options.rounds):
        _report(f"{name}: round {number + 1} of {options.rounds}, map")
        run, peak = run_apart(measure_map, source, options.threads, profile)
        run.peak_bytes = peak
        maps.append(run)
        part = looped[number :: options.rounds]
        _report(f"{name}: {run.seconds:.1f} s; floor, and the loop over {len(part)} heads")
        of_layer = {layer: [head for at, head in part if at == layer] for layer, _ in part}
        bounds.append(run_apart(measure_bounds, source, options.threads, run.pair_hits, of_layer, profile)[0])
    row = row_of(size, maps, bounds, n_layers or size["n_layers"])
    row |= {
        "name": name,
        "profile": profile,
        "share": maps[-1].share,
        "share_wanted": wanted,
        "threads": options.threads,
    }
    _report(f"{name}: share of hits {row['share']:.3%}" + (f", the demo model's {wanted:.3%}" if wanted else ""))
    return row | conditions(), maps[-1]


def row_of(size: dict[str, int], maps: list[MapRun], bounds: list[BoundsRun], n_layers: int) -> Row:
    """The figures of a row; a missing layer counts as the mean of all measured layers except the first."""
    measured = size["n_layers"]
    n_looped = sum(run.n_looped for run in bounds)
    n_heads = size["n_heads"] * n_layers
    plain_pass = statistics.median(run.plain_inputs for run in bounds)
    forward = statistics.median(run.inputs for run in bounds) if plain_pass else 0.0
    if n_layers == measured:
        seconds = [run.seconds for run in maps]
    elif plain_pass:  # the first layer reads embeddings: nothing passes through a layer before it
        passed = forward * (n_layers - measured) / (measured - 1) / measured
        seconds = [run.seconds * n_layers / measured + passed for run in maps]
        forward *= (n_layers - 1) / (measured - 1)
    else:
        seconds = [_extrapolate(_differences(run.layer_ends), n_layers) for run in maps]
    floor = statistics.median(run.read_base + _extrapolate(run.floor, n_layers) for run in bounds)
    hits = statistics.median(_extrapolate(run.hits, n_layers) for run in bounds)
    plain_pass *= n_layers / measured
    loop = sum(run.loop_seconds for run in bounds) / n_looped * n_heads + plain_pass
    ours = statistics.median(seconds)
    return size | {
        "layers": n_layers,
        "layers_measured": measured,
        "heads": n_heads,
        "rounds": len(maps),
        "seconds": ours,
        "seconds_of_rounds": seconds,
        "loop_seconds": loop,
        "loop_heads": n_looped,
        "pass_seconds": forward,
        "plain_pass_seconds": plain_pass,
        "loop_hits": sum(run.n_loop_hits for run in bounds),
        "different": sum(run.n_different for run in bounds),
        "wrong": sum(run.n_wrong for run in bounds),
        "floor_seconds": floor,
        "floor_parts": floor_parts(bounds, n_layers),
        "inputs_seconds": statistics.median(run.inputs for run in bounds),
        "hits_seconds": hits,
        "to_loop": loop / ours,
        "to_floor": ours / floor,
        "to_floor_and_hits": ours / (floor + hits),
        "bytes_read": round(_of_layers(size["to_read"], size["to_read_base"], measured, n_layers)),
        "peak_bytes": max((run.peak_bytes for run in maps if run.peak_bytes), default=None),
        "looked_at": maps[-1].looked_at,
        "in_float64": maps[-1].in_float64,
    }


def floor_parts(bounds: list[BoundsRun], n_layers: int) -> dict[str, float]:
    """Medians of the parts of the floor, in seconds."""
    rounds = [
        {"read": run.read_base + _extrapolate(run.read, n_layers)}
        | {name: _extrapolate(getattr(run, name), n_layers) for name in ("values", "own")}
        for run in bounds
    ]
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def choose_heads(n_layers: int, n_heads: int, n_wanted: int | None, n_first: int | None) -> list[tuple[int, int]]:
    """Heads for the loop as (layer, head), in random order.

    Args:
        n_wanted: default: all heads.
        n_first: only from this many first layers.
    """
    heads = [(layer, head) for layer in range(min(n_layers, n_first or n_layers)) for head in range(n_heads)]
    return random.Random(0).sample(heads, min(n_wanted or len(heads), len(heads)))


COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row["name"] + ("*" if row["layers"] > row["layers_measured"] else ""),
    "seconds": lambda row: _number(row["seconds"]),
    "of these, forward pass": lambda row: _pass_cell(row),
    "plain loop (s)": lambda row: ("≈ " if row["loop_heads"] < row["heads"] else "") + _number(row["loop_seconds"]),
    "heads looped": lambda row: f"{row['loop_heads']:,} of {row['heads']:,}",
    "× faster": lambda row: _number(row["to_loop"]),
    "floor (s)": lambda row: _number(row["floor_seconds"]),
    "hits' column (s)": lambda row: _number(row["hits_seconds"]),
    "to floor": lambda row: f"{row['to_floor']:.2f}",
    "to floor + hits": lambda row: f"{row['to_floor_and_hits']:.2f}",
    "read (GB)": lambda row: f"{row['bytes_read'] / 1e9:.2f}",
    "peak memory (GB)": lambda row: f"{row['peak_bytes'] / 1e9:.2f}" if row["peak_bytes"] else "not known",
    "logits looked at": lambda row: f"{row['looked_at']:.1%}",
    "hits that differ": lambda row: f"{row['different']:,} of {row['loop_hits']:,}" + _wrong_cell(row),
}
"""Heading -> cell."""


def markdown_table(rows: list[Row]) -> str:
    """The table, followed by notes on how each row was measured."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(cell(row) for cell in COLUMNS.values()) + " |" for row in rows]
    notes = [_note(row) for row in rows]
    return "\n".join([*lines, "", *notes])


def put_into(page: Path, table: str) -> None:
    """Replace the text between the markers of a page.

    Raises:
        SystemExit: the page has no markers.
    """
    text = page.read_text("utf-8")
    before, found, rest = text.partition(START)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"{page}: expected the lines {START!r} and {END!r}, found no such pair.")
    page.write_text(f"{before}{START}\n{table}\n{END}{after}", "utf-8")


def conditions() -> Row:
    """Machine, cores, load, date and versions."""
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def _parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = tuple(ROWS)

    def row_names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in names]:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(names)}, found {unknown[0]!r}")
        return chosen

    def positive(text: str) -> int:
        if not text.isdecimal() or not int(text):
            raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
        return int(text)

    parser.add_argument("--rows", type=row_names, default=list(names), help=f"default: {','.join(names)}")
    parser.add_argument(
        "--heads-for-loop", type=positive, help=f"heads of the plain loop; default: demo all, others {LOOPED_HEADS}"
    )
    parser.add_argument(
        "--layers",
        type=positive,
        help="layers to write, the others are extrapolated; for the demo model, layers that the heads of the loop come "
        "from; default: all that fit in 6 GB",
    )
    parser.add_argument("--rounds", type=positive, default=3, help="default: 3")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="folder for checkpoints, up to 6 GB")
    parser.add_argument("--docs", help="a page; the table between its markers is replaced")
    parser.add_argument("-o", "--output", default="benchmarks/results.json", help="default: benchmarks/results.json")
    return parser.parse_args(given)


def _n_looped(name: str, options: argparse.Namespace) -> int | None:
    return options.heads_for_loop or (None if name == DEMO else LOOPED_HEADS)


def _extrapolate(of_layers: list[float], n_layers: int) -> float:
    """The sum over n_layers if only the first layers are known; the first one differs from the others."""
    if n_layers == len(of_layers):
        return sum(of_layers)
    later = of_layers[1:] or of_layers
    return of_layers[0] + (n_layers - 1) * sum(later) / len(later)


def _of_layers(total: float, base: float, measured: int, n_layers: int) -> float:
    return base + (total - base) / measured * n_layers


def _differences(ends: list[float]) -> list[float]:
    return [end - start for start, end in zip([0.0, *ends], ends, strict=False)]


def _number(value: float) -> str:
    """Format with at least three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _pass_cell(row: Row) -> str:
    """Seconds of the forward pass of `alone`, in a process of its own."""
    return _number(row["pass_seconds"]) if row.get("pass_seconds") else "none"


def _wrong_cell(row: Row) -> str:
    return f" ({row['wrong']:,} wrong)" if row["different"] else ""


def _note(row: Row) -> str:
    """How a row was measured, as a list item."""
    layers = f"{row['layers_measured']} layers × {row['n_heads']} heads"
    if row["layers"] > row["layers_measured"]:
        layers += f" measured, the other {row['layers'] - row['layers_measured']} layers extrapolated"
    loop = "all heads" if row["loop_heads"] == row["heads"] else f"{row['loop_heads']} random heads, scaled to all"
    share = f"{row['share']:.2%} of all (head, pair) are hits"
    if row["share_wanted"] is not None:
        share += f" (planted; the demo model has {row['share_wanted']:.2%})"
    parts = ", ".join(f"{name} {_number(seconds)} s" for name, seconds in row["floor_parts"].items())
    if row.get("plain_pass_seconds"):
        loop += f" and the forward pass of transformers in float32 ({_number(row['plain_pass_seconds'])} s)"
    versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
    load = f" (load {row['load']} at the end)" if row.get("load") else ""
    return (
        f"- **{row['name']}**: {layers}; {row['n_relations']} relations, {row['n_pairs']:,} pairs, "
        f"{row['n_sources']:,} sources; {share}; plain loop over {loop}; floor: {parts}, "
        f"without {_number(row['inputs_seconds'])} s for the inputs; "
        f"{row['in_float64']:,} close calls in float64. Median of {row['rounds']} rounds, "
        f"{min(row['seconds_of_rounds']):.3g} to {max(row['seconds_of_rounds']):.3g} s; {row['threads']} threads of "
        f"{row['cores']} cores{load}, {row['machine']}, {row['date']}; {versions}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _report(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
