"""Rows in a Parquet file and back, without losing anything of a value.

What Parquet has no exact type for (numeric, arrays, ranges, jsonb, uuid, addresses, types of your
own) is PostgreSQL's own text. Times are microseconds; infinity is the largest or smallest number,
as in PostgreSQL itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.worker.archive.manifest import Column, unwritable
from penstock.worker.errors import PenstockError

_EXACT = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "bytea": pa.binary(),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "timestamp without time zone": pa.timestamp("us"),
    "date": pa.date32(),
}
_COUNTED = {
    "timestamp with time zone": (pa.int64(), 946_684_800_000_000),
    "timestamp without time zone": (pa.int64(), 946_684_800_000_000),
    "date": (pa.int32(), 10_957),
}
"""Types that are numbers since the year 2000 in PostgreSQL: how large these are, and how far 2000
is from 1970, where Parquet begins.
"""

Rows = Sequence[Sequence[Any]]


def as_text(column: Column) -> bool:
    """Whether a column's values are PostgreSQL's text. Others are Python's, moments and days the
    numbers that PostgreSQL stores.
    """
    return column.base not in _EXACT


class ParquetFile:
    """A Parquet file that is being written, by one thread or another. Close it.

    Raises PenstockError if there is no room for it.
    """

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._path = path
        self._alone = Lock()
        self._columns = columns
        self._schema = pa.schema([_field(column) for column in columns])
        with self._writing():
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Rows) -> None:
        """Add a group of rows. Raises PenstockError for a moment beyond Parquet's calendar, and if
        the file cannot be written.
        """
        cells = list(zip(*rows, strict=True))
        arrays = [_array(c, values) for c, values in zip(self._columns, cells, strict=True)]
        with self._writing():
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the end of the file. Raises PenstockError if it cannot be written."""
        with self._writing():
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Whoever stops waiting for a thread that writes, and closes, waits for it here."""
        try:
            with self._alone:
                yield
        except OSError as error:
            raise unwritable(self._path, error) from error


def read_rows(path: Path, columns: Sequence[Column]) -> Iterator[Rows]:
    """The rows of a file in groups, as they were written."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, [c.name for c in columns])
            arrays = [_values(c, group.column(c.name)) for c in columns]
            yield list(zip(*arrays, strict=True))


def count_rows(path: Path) -> int:
    """How many rows a file says that it has. Raises PenstockError if it is no Parquet file."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise PenstockError(f"{path} is no Parquet file: {error}") from error


def _field(column: Column) -> Any:
    return pa.field(column.name, _EXACT.get(column.base, pa.string()))


def _array(column: Column, values: Sequence[Any]) -> Any:
    if column.base not in _COUNTED:
        return pa.array(values, _EXACT.get(column.base, pa.string()))
    kind, offset = _COUNTED[column.base]
    shifted = [_shifted(value, offset, kind.bit_width, column) for value in values]
    return pa.array(shifted, kind).cast(_EXACT[column.base])


def _values(column: Column, array: Any) -> list[Any]:
    if column.base not in _COUNTED:
        found: list[Any] = array.to_pylist()
        return found
    kind, offset = _COUNTED[column.base]
    counted = array.cast(kind).to_pylist()
    return [_shifted(value, -offset, kind.bit_width, column) for value in counted]


def _shifted(value: int | None, offset: int, bits: int, column: Column) -> int | None:
    limit = 2 ** (bits - 1)
    if value is None or value in (-limit, limit - 1):  # infinity
        return value
    if not -limit < value + offset < limit - 1:
        raise PenstockError(
            f"a moment in the column {column.name} is later than Parquet can say; correct that "
            "row, or set export = false for this table in partitions.policy"
        )
    return value + offset
