"""One table of an atlas that can come from anybody: refused in one sentence, or exactly what its schema allows.

The footer is compared with the manifest before a value is read, so that a small file cannot unpack to a huge table, and
all values are compared with the schema before anything else sees them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from headatlas.atlas.columns import Columns, Counts, Texts
from headatlas.atlas.files import MOST_OF_A_TABLE, waiting_path
from headatlas.atlas.json_facts import SHOWN
from headatlas.atlas.parquet_footer import codecs
from headatlas.atlas.schema import (
    MOST_COLUMNS,
    SCHEMAS,
    Column,
    Kind,
    Schema,
    limits_of,
    missing_columns,
    plain,
    rows_of,
)
from headatlas.errors import AtlasError
from headatlas.printable import printable
from headatlas.regular_files import read_regular

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from headatlas.atlas.manifest import Manifest

UNPACKED, TIMES = 2**26, 100
"""A table takes at most so many bytes, or, if that is more, so many times those of its file."""

MOST_EMPTY = 2**20
"""Cells of an array of all of a table's numbers that may be empty, however few rows the table has."""

MOST_TEXT = 10_000
"""Bytes of a text in a table."""

CODECS = ("SNAPPY", "UNCOMPRESSED")
"""What atlases are compressed with; others can unpack to thousands of times their size."""

THRIFT: dict[str, Any] = {"thrift_string_size_limit": 2**24, "thrift_container_size_limit": 2**17}
"""Limits on what the footer of a file can make its reader allocate."""


def read_table(folder: Path, name: str, manifest: Manifest, remedy: str = "Run the map again.") -> Columns:
    """A table of an atlas's folder, checked.

    Args:
        name: of a table, one of `headatlas.atlas.schema.SCHEMAS`.
        remedy: what to do about a wrong file, a sentence.

    Raises:
        AtlasError: the file is missing, not the one that was written with the manifest, a link that leads out of the
            folder, too large, or holds what its schema does not allow; says what and where.
    """
    return _Reader(folder, name, manifest, remedy).read()


class _Reader:
    def __init__(self, folder: Path, name: str, manifest: Manifest, remedy: str) -> None:
        self.folder, self.path, self.name = folder, folder / f"{name}.parquet", name
        self.manifest, self.remedy = manifest, remedy
        self.schema: Schema = SCHEMAS[name]

    def refuse(self, what: str, column: str | None = None) -> NoReturn:
        at = "" if column is None else f"column {_shown(column)}: "
        raise AtlasError(f"{self.path}: {at}{what}. {self.remedy}")

    def read(self) -> Columns:
        import pyarrow as pa
        import pyarrow.parquet as pq

        content = self.content()
        try:
            file = pq.ParquetFile(pa.BufferReader(content), **THRIFT)
            if others := sorted(codecs(content) - set(CODECS)):
                self.refuse(f"expected columns compressed with {' or '.join(CODECS)}, found {others[0]}")
            found = self.check_footer(file, len(content))
            texts = [name for name, column in found.items() if column.kind is Kind.TEXT]
            # As dictionaries, in which a text that is repeated takes memory once.
            named: dict[str, Any] = {"read_dictionary": texts, "metadata": file.metadata}
            table = pq.ParquetFile(pa.BufferReader(content), **named, **THRIFT).read(
                use_threads=False, use_pandas_metadata=False
            )
        except AtlasError:
            raise
        except (Exception, pa.ArrowMemoryError) as error:  # pyarrow raises many types for a damaged file
            self.refuse(f"expected a table in Parquet, found a damaged one ({_first_line(error)})")
        return self.checked(table, self.budget(len(content)))

    def content(self) -> bytes:
        """The file's bytes, if they are those whose SHA-256 the manifest holds."""
        entry = self.manifest.files.get(self.path.name)
        if entry is None:
            raise AtlasError(
                f"{self.folder / 'atlas.json'}: expected {self.path.name} among its files, found none. {self.remedy}"
            )
        content = self.bytes_of(self.path)
        if content is not None and hashlib.sha256(content).hexdigest() == entry.sha256:
            return content
        # A writer was killed, or is at work, between the manifest and the renaming of the table.
        waiting = self.bytes_of(waiting_path(self.folder, self.name))
        if waiting is not None and hashlib.sha256(waiting).hexdigest() == entry.sha256:
            return waiting
        if content is None:
            raise AtlasError(f"{self.folder}: the manifest names {self.path.name!r}, which is not there. {self.remedy}")
        self.refuse("the file is not the one that was written with atlas.json")

    def bytes_of(self, path: Path) -> bytes | None:
        """A file's bytes; None if there is none."""
        try:
            content = read_regular(path, MOST_OF_A_TABLE, self.folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.refuse(f"cannot be read ({error.strerror or error})")
        if len(content) > MOST_OF_A_TABLE:
            self.refuse(f"expected at most {MOST_OF_A_TABLE:,} bytes, found more")
        return content

    def budget(self, n_bytes: int) -> int:
        """Bytes that the table may take."""
        return max(UNPACKED, TIMES * n_bytes)

    # The footer: nothing is decoded yet

    def check_footer(self, file: Any, n_bytes: int) -> dict[str, Column]:
        """The schema's columns that are there, after refusing a file that is too large or holds something else."""
        facts = file.metadata
        if facts.num_columns > MOST_COLUMNS:
            self.refuse(f"expected at most {MOST_COLUMNS} columns, found {facts.num_columns:,}")
        fewest, most = rows_of(self.name, self.manifest)
        if not fewest <= facts.num_rows <= most:
            expected = f"{fewest:,}" if fewest == most else f"at most {most:,}"
            self.refuse(f"expected {expected} rows, as the manifest has it, found {facts.num_rows:,}")
        unpacked = 8 * facts.num_rows * facts.num_columns
        rows = 0
        for number in range(facts.num_row_groups):
            group = facts.row_group(number)
            rows += group.num_rows
            unpacked = max(unpacked, group.total_byte_size)
        if rows != facts.num_rows:
            self.refuse(f"expected {facts.num_rows:,} rows in its groups, found {rows:,}")
        if unpacked > self.budget(n_bytes):
            self.refuse(f"expected a table of at most {self.budget(n_bytes):,} bytes, found {unpacked:,}")
        return self.columns(file)

    def columns(self, file: Any) -> dict[str, Column]:
        """The schema's columns that are there, after refusing others, other types, and missing ones."""
        import pyarrow as pa

        found: dict[str, Column] = {}
        for field in file.schema_arrow:
            column = self.schema.columns.get(field.name)
            if column is None or field.name in found:
                self.refuse(f"expected only the columns {', '.join(self.schema.columns)}, each once", field.name)
            may_be_null = column.may_be_empty or not file.metadata.num_rows
            if not _fits(field.type, column.kind) and not (may_be_null and pa.types.is_null(field.type)):
                self.refuse(f"expected {column.kind}, found {str(field.type)[:SHOWN]}", field.name)
            found[field.name] = column
        for name in missing_columns(self.schema, set(found)):
            self.refuse(f"expected a column {name!r}, found none")
        return found

    # The values

    def checked(self, table: pa.Table, budget: int) -> Columns:
        """The values as plain arrays. They come from the buffers: pyarrow's own ways there import pandas."""
        import pyarrow as pa

        made: dict[str, Texts | Counts | np.ndarray] = {}
        for name in table.column_names:
            column = self.schema.columns[name]
            values = table[name].combine_chunks()
            if isinstance(values, pa.ChunkedArray):  # more than one dictionary
                values = pa.concat_arrays(values.unify_dictionaries().chunks) if values.num_chunks else values.cast(
                    values.type
                )  # fmt: skip
            if pa.types.is_null(values.type):
                of_kind = {Kind.TEXT: pa.string(), Kind.FLAG: pa.bool_(), Kind.WHOLE: pa.int64()}
                values = values.cast(of_kind.get(column.kind, pa.float64()))
            if values.null_count and not column.may_be_empty:
                self.refuse("expected a value in each row, found none in some", name)
            if column.kind is Kind.TEXT:
                made[name], taken = self.texts(name, column, values, budget)
                budget -= taken
            elif column.kind is Kind.FLAG:
                missing, flags = _missing(values), _bits(values, 1)
                made[name] = flags if missing is None else flags & ~missing
            else:
                made[name] = self.numbers(name, column, values)
        columns = Columns(made)
        self.check_key(columns)
        self.check_numbers(columns)
        return columns

    def texts(self, name: str, column: Column, values: Any, budget: int) -> tuple[Texts, int]:
        """A column and the bytes that its texts take; refuses those that are too long, no UTF-8, or not known here."""
        import pyarrow as pa

        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        try:
            values.dictionary.validate(full=True)
        except pa.ArrowInvalid as error:
            self.refuse(f"expected texts in UTF-8, found other bytes ({_first_line(error)})", name)
        if values.dictionary.null_count:
            self.refuse("expected a value in each row, found none in some", name)
        lengths = _lengths(values.dictionary)
        if len(lengths) and lengths.max() > MOST_TEXT:
            self.refuse(f"expected texts of at most {MOST_TEXT:,} bytes, found {lengths.max():,}", name)
        found = Texts(_numbers(values.indices), values.dictionary)
        taken = int(lengths[found.codes].sum()) if len(values) else 0
        if taken > budget:
            self.refuse(f"expected texts of at most {budget:,} bytes in all, found {taken:,}", name)
        known = column.one_of
        if column.of == "relation":
            known = tuple(item.relation for item in self.manifest.relations.items if item.measurable)
        if known is not None and (unknown := sorted(set(found.factorised[1]) - set(known))):
            what = "measurable relations of the manifest" if column.of else f"one of {', '.join(known)}"
            self.refuse(f"expected {what}, found {_shown(unknown[0])}", name)
        return found, taken

    def numbers(self, name: str, column: Column, values: Any) -> Counts | np.ndarray:
        import numpy as np

        whole, missing, plain_values = column.kind is Kind.WHOLE, _missing(values), _numbers(values)
        if missing is not None:
            plain_values = np.where(missing, 0 if whole else np.nan, plain_values)
        there = plain_values if missing is None or not whole else plain_values[~missing]
        least, greatest = (there.min().item(), there.max().item()) if len(there) else (0, 0)
        if np.isnan(least):  # of a number that is not known, the least is not either
            if not column.may_be_empty:
                self.refuse("expected a number in each row, found none in some", name)
            there = there[~np.isnan(there)]
            least, greatest = (there.min().item(), there.max().item()) if len(there) else (0, 0)
        if len(there):
            low, high = limits_of(column, self.manifest)
            if not (low <= least and greatest <= high):
                wrong = least if not low <= least else greatest
                self.refuse(
                    f"expected {column.kind} from {plain(low)} to {plain(high)}, found {plain(float(wrong))}", name
                )
        if whole and column.counted:
            mask = np.zeros(len(plain_values), dtype=bool) if missing is None else missing
            return Counts(plain_values.astype("int64"), mask)
        return plain_values

    def check_numbers(self, columns: Columns) -> None:
        """Refuse numbers with such gaps that an array of all of them would be huge and nearly empty."""
        if not len(columns) or not self.schema.numbered:
            return
        cells = self.manifest.model.n_layers * self.manifest.model.n_heads
        for name in self.schema.numbered:
            largest = int(columns.numbers(name).max())
            cells *= largest + 1
            if cells > max(MOST_EMPTY, TIMES * len(columns)):
                self.refuse(f"expected numbers from 0 without large gaps, found up to {largest:,}", name)

    def check_key(self, columns: Columns) -> None:
        import numpy as np

        if len(columns) < 2 or not self.schema.key:
            return
        # One whole number for each row, as digits of a number whose base differs from place to place.
        row, size = np.zeros(len(columns), dtype=np.int64), 1
        for name in self.schema.key:
            if self.schema.columns[name].kind is Kind.WHOLE:
                numbers = columns.numbers(name)
            else:
                numbers = columns.texts(name).factorised[0]
            least, greatest = int(numbers.min()), int(numbers.max())
            base = greatest - least + 1
            if size * base >= 2**62:
                row = np.unique(row, return_inverse=True)[1]
                size = int(row.max()) + 1
            size *= base
            row *= base
            row += numbers
            if least:
                row -= least
        if not (row[1:] > row[:-1]).all() and len(np.unique(row)) < len(row):
            key = ", ".join(self.schema.key)
            self.refuse(f"expected each combination of {key} once, found one twice")


def _fits(found: pa.DataType, kind: Kind) -> bool:
    """Whether a column of a file has a type for what it holds."""
    import pyarrow as pa

    if kind is Kind.TEXT:
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    if kind is Kind.WHOLE:
        return pa.types.is_integer(found) and not pa.types.is_uint64(found)
    if kind is Kind.NUMBER:
        return pa.types.is_float32(found) or pa.types.is_float64(found)
    return pa.types.is_boolean(found)


def _numbers(values: pa.Array) -> np.ndarray:
    """The numbers of an array, not copied; where one is missing stands anything."""
    # Arrow's `float` is of 32 bits, NumPy's of 64.
    return _in_buffer(values, 1, {"float": "float32", "double": "float64"}.get(str(values.type), str(values.type)))


def _lengths(texts: pa.Array) -> np.ndarray:
    """Bytes of each text."""
    import numpy as np
    import pyarrow as pa

    wide = pa.types.is_large_string(texts.type)
    return np.diff(_in_buffer(texts, 1, "int64" if wide else "int32", more=1))


def _missing(values: pa.Array) -> np.ndarray | None:
    """The rows without a value; None if all have one."""
    return ~_bits(values, 0) if values.null_count else None


def _bits(values: pa.Array, number: int) -> np.ndarray:
    """One of an array's buffers, in which each row has a bit."""
    import numpy as np

    first = values.offset // 8
    packed = np.frombuffer(values.buffers()[number], np.uint8)[first : (values.offset + len(values) + 7) // 8]
    return np.unpackbits(packed, bitorder="little").astype(bool)[values.offset - 8 * first :][: len(values)]


def _in_buffer(values: pa.Array, number: int, dtype: str, more: int = 0) -> np.ndarray:
    """One of an array's buffers, in which each row, and `more` behind the last, has a number."""
    import numpy as np

    if not len(values):
        return np.empty(0, dtype)
    found = np.frombuffer(values.buffers()[number], dtype)[values.offset :][: len(values) + more]
    assert len(found) == len(values) + more
    return found


def _shown(text: object) -> str:
    return repr(printable(str(text)[:SHOWN]))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0][:200]).rstrip(".: ")
