"""Rows of several entities, gathered and then replaced together.

A statement costs a round trip and a plan, whether it is about one row or a thousand. Whoever takes
many entities over a short range gathers what each of them has to store, and writes each table once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from psycopg import sql

from anomaly_assets.storage import bulk
from anomaly_assets.storage.database import Connection
from anomaly_assets.storage.partitions import ensure_partitions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from anomaly_assets.streams.windows import WindowRange


class Pending:
    """Replacements of rows of several entities; nothing is written before :meth:`write`.

    Attributes
    ----------
    last_retrained : dict
        By entity when single streams were last retrained, and when all of them were; an entity
        that never was is not in it.
    """

    def __init__(self) -> None:
        self.last_retrained: dict[str, tuple[dict[str, datetime], datetime | None]] = {}
        self._waiting: dict[
            tuple[str, WindowRange, tuple[tuple[str, str], ...]], dict[str, pa.Table]
        ] = {}

    def add(
        self,
        table: str,
        entity_id: str,
        windows: WindowRange,
        columns: Mapping[str, pa.Array],
        only: Mapping[str, str],
    ) -> int:
        """Gather one replacement; returns the number of rows it will write."""
        rows = pa.table(dict(columns))
        key = (table, windows, tuple(only.items()))
        self._waiting.setdefault(key, {})[entity_id] = rows
        return int(rows.num_rows)

    def forget(self, entity_id: str) -> None:
        """Leave an entity out after all."""
        for rows in self._waiting.values():
            rows.pop(entity_id, None)

    def write(self, connection: Connection) -> None:
        """Carry them out, in the caller's transaction."""
        for windows in dict.fromkeys(windows for _, windows, _ in self._waiting):
            ensure_partitions(connection, windows.start_time, windows.end_time)
        for (table, windows, only), rows in self._waiting.items():
            if rows:
                _replace(connection, table, windows, dict(only), rows)
        self._waiting.clear()


#: Where results are written to: the database, or what is gathered for it.
Target = Connection | Pending


def replace_rows(  # noqa: PLR0913 - what, where, when and with what
    target: Target,
    table: str,
    entity_id: str,
    windows: WindowRange,
    columns: Mapping[str, pa.Array],
    *,
    only: Mapping[str, str],
) -> int:
    """Replace an entity's rows of a range, or gather that; see :func:`bulk.replace_range`."""
    if isinstance(target, Pending):
        return target.add(table, entity_id, windows, columns, only)
    ensure_partitions(target, windows.start_time, windows.end_time)
    return bulk.replace_range(target, table, entity_id, windows, columns, only=only)


def _replace(
    connection: Connection,
    table: str,
    windows: WindowRange,
    only: Mapping[str, str],
    rows: Mapping[str, pa.Table],
) -> None:
    entities = sorted(rows)
    # The locks of bulk.replace_range, in one order.
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(name, 1)) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS names (name, place) ORDER BY place",
        ([f"{table}\x1f{entity_id}" for entity_id in entities],),
    )
    conditions = sql.Composed(
        [
            sql.SQL(" AND {} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in only.items()
        ]
    )
    parameters: tuple[Any, ...] = (entities, windows.start_time, windows.end_time)
    connection.execute(
        sql.SQL(
            "DELETE FROM {} WHERE entity_id = ANY(%s) AND timestamp >= %s AND timestamp < %s{}"
        ).format(sql.Identifier(table), conditions),
        parameters,
    )
    merged = pa.concat_tables([rows[entity_id] for entity_id in entities])
    bulk.copy_rows(connection, table, dict(zip(merged.column_names, merged.columns, strict=True)))
