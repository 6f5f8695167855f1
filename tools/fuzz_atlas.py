"""Mutate the manifest and tables of an atlas, and read the result with everything that reads atlases.

    python tools/fuzz_atlas.py ATLAS N [SEED]

Each of the N mutations of a copy of ATLAS (a folder; a small one, since it is read N times) must be read, or refused by
a `HeadatlasError`, in SECONDS of processor time for each reader and with at most MEGABYTES more memory than before.
Prints each failure with the number of its mutation, and exits with 1 if there is one. The same SEED gives the same
mutations; `python tools/fuzz_atlas.py ATLAS 1 SEED+NUMBER` repeats one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from changed_json import VALUES, change_json
from headatlas.analysis.card import head_card
from headatlas.analysis.categories import classify
from headatlas.analysis.compare import compare_atlases
from headatlas.analysis.compare_functions import compare_functions
from headatlas.analysis.coverage import sum_coverage
from headatlas.atlas import MANIFEST, Atlas, load_atlas
from headatlas.errors import HeadatlasError
from headatlas.explorer.payload import build_payload
from headatlas.reports.card import write_card
from headatlas.reports.export import FORMATS, export
from headatlas.reports.markdown import to_markdown
from headatlas.reports.model_card import write_model_card
from headatlas.reports.report import build_report

SECONDS, MEGABYTES = 1.0, 500

READERS = 1
"""Readers of each mutation that opens, chosen by chance; all are tried over many mutations."""


def readers(seed: Atlas) -> dict[str, Callable[[Atlas], object]]:
    """What reads an atlas, by name; `seed` is the atlas that was mutated."""
    return {
        "evidence": lambda atlas: [atlas.evidence(name) for name in atlas.manifest.evidence.names],
        "coverage": sum_coverage,
        "categories": lambda atlas: [classify(atlas, rule=rule) for rule in ("plain", "calibrated")],
        "card": lambda atlas: [write_card(head_card(atlas, name)) for name in ("L0H0", _last(atlas))],
        "provenance": lambda atlas: to_markdown(build_report(atlas)),
        "model card": write_model_card,
        "export": lambda atlas: [export(atlas, fmt) for fmt in FORMATS],
        "comparison": lambda atlas: compare_atlases(seed, atlas),
        "functions": lambda atlas: compare_functions(seed, atlas),
        "payload": lambda atlas: build_payload([atlas]),
    }


def _last(atlas: Atlas) -> str:
    return f"L{atlas.n_layers - 1}H{atlas.n_heads - 1}"


class Fuzzer:
    """Mutations of one atlas, in a folder that is written anew for each."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.work = work / "atlas"
        self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        self.tables = {name: pq.read_table(folder / name) for name in self.manifest["files"]}
        self.contents = {name: (folder / name).read_bytes() for name in self.tables}
        self.seed = load_atlas(folder)
        for name in self.seed.manifest.evidence.names:
            self.seed.evidence(name)
        for read in readers(self.seed).values():  # imports and caches
            read(self.seed)

    def run(self, number: int) -> list[str]:
        """The failures of one mutation, each a few lines."""
        chance = random.Random(number)
        what = self.mutate(chance)
        failures: list[str] = []
        atlas: Atlas | None = None

        def attempt(name: str, act: Callable[[], object]) -> Any:
            before, started = memory(), time.process_time()
            found: Any = None
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    found = act()
            except HeadatlasError as error:
                if "\n" in str(error) or any(not each.isprintable() for each in str(error)):
                    failures.append(f"{number}: {what}: {name}: the message is not printable: {error!r}")
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)
                ours = [f"{Path(each.filename).name}:{each.lineno}" for each in where if "headatlas" in each.filename]
                failures.append(f"{number}: {what}: {name}: {type(error).__name__}: {str(error)[:200]} ({ours[-1:]})")
            seconds, more = time.process_time() - started, memory() - before
            if seconds > SECONDS:
                failures.append(f"{number}: {what}: {name}: {seconds:.1f} s")
            if more > MEGABYTES * 2**20:
                failures.append(f"{number}: {what}: {name}: {more / 2**20:.0f} MB")
            return found

        atlas = attempt("open", lambda: load_atlas(self.work))
        if atlas is not None:
            opened = atlas
            every = readers(self.seed)
            for name in chance.sample(sorted(every), READERS):
                read = every[name]
                attempt(name, lambda read=read: read(opened))
        return failures

    def mutate(self, chance: random.Random) -> str:
        """Write a mutated copy; what was changed, in words."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        manifest, contents, changed = copy.deepcopy(self.manifest), dict(self.contents), []
        for _ in range(1 if chance.random() < 0.8 else 2):
            if chance.random() < 0.45:
                changed.append(f"manifest {change_json(manifest, chance)}")
            else:
                name = chance.choice(sorted(self.tables))
                done, contents[name] = change_table(self.tables[name], contents[name], chance)
                changed.append(f"{name}: {done}")
        for name, content in contents.items():
            (self.work / name).write_bytes(content)
            files = manifest.get("files")
            if isinstance(files, dict) and isinstance(files.get(name), dict) and chance.random() < 0.995:
                files[name]["sha256"] = hashlib.sha256(content).hexdigest()
        (self.work / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=True), "utf-8")
        return "; ".join(changed)


def change_table(table: pa.Table, content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change one column, some cells, the rows or the file of a table."""
    acts = [cells, cells, cells, cells, column_of_one_value, column_of_other_type, columns, rows, rows, file]
    try:
        return chance.choice(acts)(table, content, chance)
    except pa.ArrowException:  # no Parquet file can hold it
        return "nothing", content


def cells(table: pa.Table, _: bytes, chance: random.Random) -> tuple[str, bytes]:
    at = chance.randrange(table.num_columns)
    field = table.schema.field(at)
    values = table.column(at).to_pylist()
    if not values:
        return "nothing", written(table)
    if pa.types.is_integer(field.type):
        new = chance.choice([-1, 0, 1, 3, 10**6, 2**31 - 1, 2**31, 2**62, None])
    elif pa.types.is_floating(field.type):
        new = chance.choice([-1.0, 0.0, 0.5, 1.0, 1.5, 1e-320, 1e300, float("inf"), float("nan"), None])
    elif pa.types.is_boolean(field.type):
        new = chance.choice([True, False, None])
    else:
        new = chance.choice(["", "a", "\x1b[31m", "x" * 20_000, "x" * 9_000, values[-1], None])
    chosen = chance.sample(range(len(values)), min(len(values), chance.choice([1, 1, 2, 10])))
    for row in chosen:
        values[row] = new
    column = pa.array(values, field.type, from_pandas=False)
    return f"{len(chosen)} of {field.name} become {str(new)[:30]!r}", written(table.set_column(at, field.name, column))


def column_of_one_value(table: pa.Table, _: bytes, chance: random.Random) -> tuple[str, bytes]:
    at, new = chance.randrange(table.num_columns), chance.choice(VALUES)
    if isinstance(new, int) and not -(2**63) <= new < 2**63:
        new = 2**62
    if new == "\ud800":
        new = "x" * 9_999
    name = table.column_names[at]
    column = pa.array([new] * table.num_rows)
    return f"all of {name} become {str(new)[:30]!r}", written(table.set_column(at, name, column))


def column_of_other_type(table: pa.Table, _: bytes, chance: random.Random) -> tuple[str, bytes]:
    at, n = chance.randrange(table.num_columns), table.num_rows
    name = table.column_names[at]
    column = chance.choice(
        [
            pa.nulls(n), pa.array([b"\xff\xfe"] * n), pa.array([[1, 2]] * n), pa.array([{"a": 1}] * n),
            pa.array(["a", "b"] * n)[:n].dictionary_encode(), pa.array(range(n), pa.int8() if n < 128 else pa.int16()
                                                                        if n < 32_768 else pa.int32()),
            pa.array(np.arange(n), pa.timestamp("ns")), pa.array([1.5] * n, pa.float32()),
            pa.array([2**63] * n, pa.uint64()),
        ]
    )  # fmt: skip
    return f"{name} of the type {column.type}", written(table.set_column(at, name, column))


def columns(table: pa.Table, _: bytes, chance: random.Random) -> tuple[str, bytes]:
    at = chance.randrange(table.num_columns)
    name = table.column_names[at]
    act = chance.choice(["remove", "rename", "add", "order", "many"])
    if act == "remove":
        return f"{name} removed", written(table.drop_columns([name]))
    if act == "rename":
        names = [each if each != name else chance.choice(["x", "<b>", "", "\x1b"]) for each in table.column_names]
        return f"{name} renamed", written(table.rename_columns(names))
    if act == "order":
        return "columns in another order", written(table.select(table.column_names[::-1]))
    for number in range(1 if act == "add" else 200):
        table = table.append_column(f"x{number}", pa.nulls(table.num_rows))
    return "further columns", written(table)


def rows(table: pa.Table, _: bytes, chance: random.Random) -> tuple[str, bytes]:
    n = table.num_rows
    act = chance.choice(["none", "half", "twice", "shuffled", "one twice", "many"])
    if act == "none":
        return "no rows", written(table.slice(0, 0))
    if act == "half":
        return "half of the rows", written(table.slice(0, n // 2))
    if act == "twice":
        return "all rows twice", written(pa.concat_tables([table, table]))
    if act == "shuffled":
        order = list(range(n))
        chance.shuffle(order)
        return "rows shuffled", written(table.take(order))
    if act == "one twice" or not n:
        row = chance.randrange(max(n, 1))
        return "a row twice", written(pa.concat_tables([table, table.slice(row, 1)]))
    # One row over and over takes little room in the file.
    times = chance.choice([100_000, 2_000_000])
    column = {name: pa.repeat(table.column(name)[0], times) for name in table.column_names}
    return f"one row {times:,} times", written(pa.table(column))


def file(table: pa.Table, content: bytes, chance: random.Random) -> tuple[str, bytes]:
    act = chance.choice(["cut", "bytes", "footer", "codec", "empty", "groups"])
    if act == "empty" or not content:  # an earlier change may have emptied it
        return "an empty file", b""
    if act == "cut":
        return "the file cut", content[: chance.randrange(len(content))]
    if act == "codec":
        codec = chance.choice(["gzip", "zstd", "brotli", "none"])
        return f"compressed with {codec}", written(table, compression=codec)
    if act == "groups":
        return "many row groups", written(table, row_group_size=1 + table.num_rows // 50)
    changed, begin = bytearray(content), len(content) - min(len(content), 3000) if act == "footer" else 0
    for _ in range(chance.choice([1, 3, 20])):
        changed[chance.randrange(begin, len(changed))] = chance.randrange(256)
    return f"bytes of the {'footer' if begin else 'file'} changed", bytes(changed)


def written(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def memory() -> int:
    """Bytes that this process has needed at most."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fuzz(folder: Path, n: int, seed: int = 0) -> list[str]:
    """The failures of `n` mutations of an atlas."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        fuzzer = Fuzzer(folder, Path(work))
        for number in range(seed, seed + n):
            found = fuzzer.run(number)
            failures += found
            if n >= 1000:  # a long run, which somebody can end early
                print(*(f"{each}\n" for each in found), sep="", end="", flush=True)
                if (number - seed + 1) % 500 == 0:
                    print(f"{number - seed + 1:,} of {n:,}, {len(failures)} failures", flush=True)
    return failures


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    all_found = fuzz(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    print(*all_found, sep="\n")
    print(f"{len(all_found)} failures")
    sys.exit(bool(all_found))
