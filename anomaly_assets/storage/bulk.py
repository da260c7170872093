"""Bulk transfer between arrays and tables, exact to the bit.

Out of arrays: ``COPY`` of CSV that Arrow writes (shortest digits that read back as the same float),
or parameters in PostgreSQL's binary format where a statement does more than append. Into arrays:
the server packs whole columns with ``array_send``, so that no Python loop touches a row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv as arrow_csv
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from anomaly_assets.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import FloatArray, IntArray, WindowRange

    Array = npt.NDArray[Any]

MICROSECONDS = 1_000_000
#: PostgreSQL counts microseconds from the year 2000.
POSTGRES_EPOCH = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS

_BINARY_KINDS: dict[str, np.dtype[Any]] = {
    "i4": np.dtype(">i4"),
    "i8": np.dtype(">i8"),
    "f8": np.dtype(">f8"),
    "b1": np.dtype("u1"),
}


def moments(microseconds: IntArray) -> pa.Array:
    """Return epoch microseconds as a column of ``timestamptz``."""
    return pa.array(microseconds).cast(pa.timestamp("us", tz="UTC"))


def named(codes: Array, names: Sequence[str]) -> pa.Array:
    """Return the text column whose row i is ``names[codes[i]]``."""
    dictionary = pa.array(names, type=pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes), dictionary).cast(pa.string())


def constant(value: str, length: int) -> pa.Array:
    """Return a text column of one value."""
    return pa.repeat(pa.scalar(value, type=pa.string()), length)


def floats(values: FloatArray) -> pa.Array:
    """Return a float column, NULL where `values` is NaN; any shape is flattened."""
    return pa.array(np.ravel(values), from_pandas=True)


def copy_rows(connection: Connection, table: str, columns: Mapping[str, pa.Array]) -> int:
    """Append rows to `table` by ``COPY``.

    Parameters
    ----------
    connection
        A connection, usually within a transaction.
    table
        Name of the table.
    columns
        Columns by name, of one length, rows in the order of the primary key. NULL is NULL.

    Returns
    -------
    int
        Number of rows.
    """
    content = pa.table(dict(columns))
    if content.num_rows == 0:
        return 0
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(content, sink, arrow_csv.WriteOptions(include_header=False))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(memoryview(sink.getvalue()))
    return int(content.num_rows)


class PackedArray:
    """An array as PostgreSQL's binary format has it, a parameter like any other.

    Parameters
    ----------
    values
        One dimension, without NULL, of the width of the element's type.
    """

    kind: ClassVar[str]
    element: ClassVar[int]
    array: ClassVar[int]

    def __init__(self, values: Array) -> None:
        dtype = _BINARY_KINDS[self.kind]
        items = np.empty(len(values), dtype=[("width", ">i4"), ("value", dtype)])
        items["width"] = dtype.itemsize
        items["value"] = values
        header = np.array([1, 0, self.element, len(values), 1], dtype=">i4")
        self.content = header.tobytes() + items.tobytes()


class Int4Array(PackedArray):
    """Integers of 32 bits."""

    kind, element, array = "i4", 23, 1007


class Float8Array(PackedArray):
    """Floats of 64 bits, to the last of them."""

    kind, element, array = "f8", 701, 1022


class TimestampArray(PackedArray):
    """Moments, from microseconds since the Unix epoch."""

    kind, element, array = "i8", 1184, 1185

    def __init__(self, values: Array) -> None:
        super().__init__(values - POSTGRES_EPOCH)


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PackedArray) -> bytes:
        return obj.content


for _kind in (Int4Array, Float8Array, TimestampArray):
    _dumper = type(f"{_kind.__name__}Dumper", (_PackedDumper,), {"oid": _kind.array})
    psycopg.adapters.register_dumper(_kind, _dumper)


def fetch_columns(
    connection: Connection,
    query: sql.Composable,
    parameters: Mapping[str, Any],
    dtypes: Mapping[str, str],
) -> dict[str, Array]:
    """Run a query and return its columns as arrays.

    Parameters
    ----------
    connection
        A connection.
    query
        A ``SELECT`` whose columns are named as in `dtypes` and hold no NULL.
    parameters
        Named parameters of the query.
    dtypes
        Type of each column: ``i4``, ``i8``, ``f8``, ``b1``, ``time`` (a ``timestamptz``, returned
        as int64 microseconds since the Unix epoch), or ``f8[]`` (float arrays of one length in all
        rows).

    Returns
    -------
    dict
        Arrays by column name, rows in one common order; of shape ``(n_rows, length)`` for ``f8[]``.
    """
    packed = sql.SQL(", ").join(
        sql.SQL("array_send(array_agg({}))").format(sql.Identifier(name)) for name in dtypes
    )
    statement = sql.SQL("SELECT {} FROM ({}) AS rows").format(packed, query)
    with connection.cursor(binary=True) as cursor:
        row = cursor.execute(statement, parameters).fetchone()
    if row is None:  # an aggregate always answers
        msg = "the database gave no answer to a query; try again"
        raise StorageError(msg)
    return {
        name: _unpacked(packed_column, dtype)
        for packed_column, (name, dtype) in zip(row, dtypes.items(), strict=True)
    }


def replace_range(  # noqa: PLR0913 - what, where, when and with what
    connection: Connection,
    table: str,
    entity_id: str,
    windows: WindowRange,
    columns: Mapping[str, pa.Array],
    *,
    only: Mapping[str, str] | None = None,
) -> int:
    """Replace an entity's rows of a range of windows, in one transaction.

    Parameters
    ----------
    connection
        A connection to the database.
    table
        A table with ``entity_id`` and ``timestamp``.
    entity_id, windows
        Whose rows, of which windows.
    columns
        The new rows.
    only
        Further columns (and their value) that tell the rows to be replaced from the others.

    Returns
    -------
    int
        Number of rows written.
    """
    conditions = [
        sql.SQL(" AND {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in (only or {}).items()
    ]
    statement = sql.SQL(
        "DELETE FROM {} WHERE entity_id = %s AND timestamp >= %s AND timestamp < %s{}"
    ).format(sql.Identifier(table), sql.Composed(conditions))
    with connection.transaction():
        # Two writers of one range would each delete nothing and then collide.
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", (f"{table}\x1f{entity_id}",)
        )
        connection.execute(statement, (entity_id, windows.start_time, windows.end_time))
        return copy_rows(connection, table, columns)


def _unpacked(packed: bytes | None, dtype: str) -> Array:
    nested = dtype.endswith("[]")
    kind = _BINARY_KINDS["i8" if dtype == "time" else dtype.removesuffix("[]")]
    if packed is None:
        return np.empty((0, 0) if nested else 0, dtype=kind.newbyteorder("="))
    # Number of dimensions, flags, type; size and lower bound of each dimension; then the elements,
    # each behind its width.
    dimensions = 2 if nested else 1
    elements = np.frombuffer(
        packed, dtype=[("width", ">i4"), ("value", kind)], offset=12 + 8 * dimensions
    )
    values = elements["value"].astype(kind.newbyteorder("="))
    if dtype == "time":
        values += POSTGRES_EPOCH
    if nested:
        return values.reshape(int.from_bytes(packed[12:16], "big"), -1)
    return values.astype(np.bool_) if dtype == "b1" else values
