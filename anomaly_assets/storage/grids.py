"""Tables whose rows are the cells of a grid, window by name, and columns of composed text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import bulk
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, WindowRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import BoolArray, IntArray


@dataclass(frozen=True)
class Grid:
    """Rows of consecutive windows with the same names in each, in the order of the primary key.

    Parameters
    ----------
    entity_id
        Whose rows.
    windows
        The windows.
    names
        ``stream_id`` of the cells of a window, in the order of the arrays' second axis.
    """

    entity_id: str
    windows: WindowRange
    names: Sequence[str]

    @property
    def order(self) -> IntArray:
        """Positions of the names in alphabetical order."""
        return np.argsort(np.array(self.names, dtype=object), kind="stable").astype(np.int64)

    def key(self) -> dict[str, pa.Array]:
        """Return the columns ``entity_id``, ``timestamp`` and ``stream_id``."""
        n_windows, n_names = len(self.windows), len(self.names)
        return {
            "entity_id": bulk.constant(self.entity_id, n_windows * n_names),
            "timestamp": bulk.moments(np.repeat(microseconds(self.windows), n_names)),
            "stream_id": bulk.named(np.tile(self.order, n_windows), self.names),
        }

    def column(self, values: npt.NDArray[Any]) -> pa.Array:
        """Return an array of shape ``(n_windows, n_names)`` as a column; NaN becomes NULL."""
        ordered = np.ascontiguousarray(values[:, self.order]).ravel()
        if ordered.dtype == np.float64:
            return bulk.floats(ordered)
        return pa.array(ordered)


def microseconds(windows: WindowRange) -> IntArray:
    """Return the window starts in epoch microseconds."""
    return windows.starts() * bulk.MICROSECONDS


def read_grid(  # noqa: PLR0913 - what, of whom, when
    connection: Connection,
    table: str,
    grid: Grid,
    columns: Mapping[str, sql.Composable],
    *,
    condition: str = "true",
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, FloatArray]:
    """Read the cells of a grid as arrays.

    Parameters
    ----------
    connection
        A connection.
    table
        Name of the table.
    grid
        Which cells.
    columns
        SQL of each column to read, by name; a float, NULL is NaN. The table is called ``t``.
    condition
        SQL that tells the rows wanted from others of the same windows.
    parameters
        Named parameters of the columns.

    Returns
    -------
    dict
        Arrays of shape ``(n_windows, n_names)`` by column name.

    Raises
    ------
    StorageError
        If a cell has no row; the message names the first one.
    """
    selected = sql.SQL(", ").join(
        sql.SQL("coalesce({}, 'NaN') AS {}").format(expression, sql.Identifier(name))
        for name, expression in columns.items()
    )
    query = sql.SQL(
        "SELECT t.timestamp AS at, n.code::int4 AS code, {} FROM {} AS t "
        "JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, code) ON n.name = t.stream_id "
        "WHERE t.entity_id = %(entity_id)s AND t.timestamp >= %(start)s AND t.timestamp < %(end)s "
        "AND {}"
    ).format(selected, sql.Identifier(table), sql.SQL(condition))
    found = bulk.fetch_columns(
        connection,
        query,
        {**(parameters or {}), "names": list(grid.names), **where(grid.entity_id, grid.windows)},
        {"at": "time", "code": "i4", **dict.fromkeys(columns, "f8")},
    )
    at = (window_numbers(found["at"], grid.windows), found["code"] - 1)
    shape = (len(grid.windows), len(grid.names))
    there = np.zeros(shape, dtype=np.bool_)
    there[at] = True
    _require_all(there, grid, table)
    arrays = {}
    for name in columns:
        arrays[name] = np.full(shape, np.nan)
        arrays[name][at] = found[name]
    return arrays


def where(entity_id: str, windows: WindowRange) -> dict[str, Any]:
    """Return the query parameters ``entity_id``, ``start`` and ``end``."""
    return {"entity_id": entity_id, "start": windows.start_time, "end": windows.end_time}


def window_numbers(at: IntArray, windows: WindowRange) -> IntArray:
    """Return which window of the range starts at each of these epoch microseconds."""
    numbers: IntArray = (at // bulk.MICROSECONDS - windows.start) // WINDOW_SECONDS
    return numbers


def _require_all(there: BoolArray, grid: Grid, table: str) -> None:
    if there.all():
        return
    window, name = np.unravel_index(int(np.argmin(there)), there.shape)
    start = int(grid.windows.starts()[window])
    moment = WindowRange(start, start).start_time.isoformat()
    others = bool(there[window].any())
    msg = (
        f"entity {grid.entity_id!r}: {table} has no row of {grid.names[int(name)]!r} "
        f"in window {moment}"
        + (
            ", though it has others: the catalogue has changed since; process the entity again"
            if others
            else "; process that window first"
        )
    )
    raise StorageError(msg)


def json_objects(names: Sequence[str], values: FloatArray) -> pa.Array:
    """Return a column of JSON objects from names to the numbers of each row, null for NaN.

    Parameters
    ----------
    names
        Keys.
    values
        Shape ``(n_rows, n_names)``.
    """
    parts: list[Any] = ["{"]
    for position, name in enumerate(names):
        parts.append(("," if position else "") + json.dumps(name) + ":")
        column = bulk.floats(values[:, position])
        parts.append(pc.fill_null(pc.cast(column, pa.string()), "null"))
    return _joined([*parts, "}"], len(values))


def json_lists(names: Sequence[str], flags: BoolArray) -> pa.Array:
    """Return a column of JSON lists of the names whose flag in ``(n_rows, n_names)`` is set."""
    parts = [
        pc.if_else(pa.array(flags[:, position]), json.dumps(name) + ",", "")
        for position, name in enumerate(names)
    ]
    listed = pc.utf8_rtrim(_joined(parts, len(flags)), ",")
    return _joined(["[", listed, "]"], len(flags))


def float_lists(values: FloatArray) -> pa.Array:
    """Return a column of PostgreSQL float arrays, one for each row of `values`; NaN stays NaN."""
    n_rows, length = values.shape
    text = pc.cast(pa.array(np.ascontiguousarray(values).ravel()), pa.string())
    offsets = pa.array(np.arange(n_rows + 1, dtype=np.int32) * np.int32(length))
    lists = pa.ListArray.from_arrays(offsets, text)
    return _joined(["{", pc.binary_join(lists, ","), "}"], n_rows)


def _joined(parts: Sequence[Any], n_rows: int) -> pa.Array:
    columns = [bulk.constant(part, n_rows) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*columns, "")
