"""A table as plain arrays: what is checked and what quick commands read; pandas only where somebody wants a frame."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Texts:
    """A column of texts, each kept once.

    Args:
        codes: the place of each row's text: Int[ndarray, "row"].
        dictionary: the texts; one can be there twice, or in no row. A list can hold texts that Arrow cannot: those of a
            frame may have lone surrogates.
    """

    codes: np.ndarray
    dictionary: pa.Array | list[str]

    def __getitem__(self, row: int) -> str:
        return self._text(int(self.codes[row]))

    def _text(self, place: int) -> str:
        text = self.dictionary[place]
        return text if isinstance(text, str) else text.as_py()

    @cached_property
    def factorised(self) -> tuple[np.ndarray, list[str]]:
        """A number for each row, equal for equal texts, and the texts in the order in which they first occur."""
        import numpy as np

        used, first, places = np.unique(self.codes, return_index=True, return_inverse=True)
        numbers: dict[str, int] = {}
        of_place = np.empty(len(used), dtype=np.int64)
        for at in first.argsort():
            of_place[at] = numbers.setdefault(self._text(int(used[at])), len(numbers))
        return of_place[places], list(numbers)

    def equal(self, text: str) -> np.ndarray:
        """The rows with this text: Bool[ndarray, "row"]."""
        return self.among((text,))

    def among(self, texts: Collection[str]) -> np.ndarray:
        """The rows with one of these texts: Bool[ndarray, "row"]."""
        import numpy as np

        numbers, known = self.factorised
        return np.array([text in texts for text in known], dtype=bool)[numbers]

    def to_list(self) -> list[str]:
        numbers, texts = self.factorised
        return [texts[number] for number in numbers.tolist()]


@dataclass(frozen=True, eq=False)
class Counts:
    """A column of whole numbers of which some may not be known.

    Args:
        values: Int64[ndarray, "row"]; 0 where it is missing.
        missing: Bool[ndarray, "row"].
    """

    values: np.ndarray
    missing: np.ndarray


class Columns:
    """A table: of each column, texts, counts, or a plain array of numbers or of true and false.

    Args:
        columns: by name, all of the same length.
    """

    def __init__(self, columns: Mapping[str, Texts | Counts | np.ndarray]) -> None:
        self._columns = dict(columns)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of rows."""
        first = next(iter(self._columns.values()), ())
        return len(first.codes if isinstance(first, Texts) else first.values if isinstance(first, Counts) else first)

    def texts(self, name: str) -> Texts:
        column = self._columns[name]
        assert isinstance(column, Texts)
        return column

    def numbers(self, name: str) -> np.ndarray:
        """A column's numbers; of counts, as float64 with NaN where one is missing."""
        column = self._columns[name]
        assert not isinstance(column, Texts)
        if not isinstance(column, Counts):
            return column
        values = column.values.astype("float64")
        values[column.missing] = float("nan")
        return values

    def known(self, name: str) -> np.ndarray:
        """The rows whose value is not missing: Bool[ndarray, "row"]."""
        import numpy as np

        column = self._columns[name]
        if isinstance(column, Counts):
            return ~column.missing
        if isinstance(column, Texts) or column.dtype.kind != "f":
            return np.ones(len(self), dtype=bool)
        return ~np.isnan(column)

    def take(self, rows: np.ndarray) -> Columns:
        """The same columns with these rows, by number or by a mask."""
        taken: dict[str, Texts | Counts | np.ndarray] = {}
        for name, column in self._columns.items():
            if isinstance(column, Texts):
                taken[name] = Texts(column.codes[rows], column.dictionary)
            elif isinstance(column, Counts):
                taken[name] = Counts(column.values[rows], column.missing[rows])
            else:
                taken[name] = column[rows]
        return Columns(taken)

    def of_head(self, layer: int, head: int) -> Columns:
        """The rows of one head, by the columns `layer` and `head`."""
        return self.take((self.numbers("layer") == layer) & (self.numbers("head") == head))

    def rows(self) -> list[dict[str, Any]]:
        """Each row in JSON types, None where a value is unknown, as `records` of its frame; needs no pandas."""
        lists = []
        for name, column in self._columns.items():
            if isinstance(column, Texts):
                lists.append(column.to_list())
                continue
            values = column.values if isinstance(column, Counts) else column
            known = zip(values.tolist(), self.known(name).tolist(), strict=True)
            lists.append([value if is_known else None for value, is_known in known])
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*lists, strict=True)]

    def frame(self) -> pd.DataFrame:
        """The table for pandas: counts are `Int64`, in which one can be missing."""
        import pandas as pd
        import pyarrow as pa

        made: dict[str, Any] = {}
        for name, column in self._columns.items():
            if isinstance(column, Texts):
                texts = pa.DictionaryArray.from_arrays(pa.array(column.codes), column.dictionary)
                made[name] = texts.cast(pa.string()).to_pandas().array
            elif isinstance(column, Counts):
                made[name] = pd.arrays.IntegerArray(column.values, column.missing)
            else:
                made[name] = column
        return pd.DataFrame(made)


def columns_of_frame(frame: pd.DataFrame) -> Columns:
    """A frame as plain arrays; missing numbers of any kind become NaN or missing counts."""
    import pandas as pd

    made: dict[str, Texts | Counts | np.ndarray] = {}
    for name in frame:
        column: Any = frame[name]
        if isinstance(column.dtype, pd.Int64Dtype):
            made[str(name)] = Counts(column.to_numpy("int64", na_value=0), column.isna().to_numpy())
        elif pd.api.types.is_numeric_dtype(column.dtype):  # true and false are numeric, too
            made[str(name)] = column.to_numpy()
        else:
            codes, texts = pd.factorize(column, use_na_sentinel=False)
            made[str(name)] = Texts(codes, [str(text) for text in texts])
    return Columns(made)
