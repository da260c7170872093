"""Deleting an entity entirely: every row of it, in every table that can hold one.

Which tables those are is asked of the schema, so that one that is added later is not overlooked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from psycopg import sql
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly_assets.storage.database import Connection

#: The row that says that there is such an entity; it goes last.
_ENTITIES: Final = "entities"

#: What holds something of an entity without naming it in a column: condition by table, for the
#: parameters ``entity``, ``tokens`` (numbers of its tokens), ``sources`` (names of the files its
#: readings came from) and ``named`` (its identifier as JSON writes it).
BESIDE: Final[Mapping[str, str]] = {
    # Answers to requests may say what a reading looked like.
    "idempotency_keys": "token_id = ANY(%(tokens)s) OR position(%(named)s in response) > 0",
    # Else the files that it came from would count as taken in.
    "ingest_progress": "source = ANY(%(sources)s)",
    "webhooks": "created_by = ANY(%(tokens)s)",
}
_SOURCES: Final = (
    "SELECT DISTINCT source FROM readings WHERE entity_id = %(entity)s "
    "UNION SELECT source FROM rejected_readings WHERE entity_id = %(entity)s"
)


def tables_with_entities(connection: Connection) -> list[str]:
    """Return the tables that have a column ``entity_id``, but for `entities`, in order.

    Partitions and chunks belong to the tables that they are of.
    """
    rows = connection.execute(
        "SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') "
        "AND NOT c.relispartition AND a.attname = 'entity_id' AND NOT a.attisdropped ORDER BY 1"
    ).fetchall()
    return [str(row[0]) for row in rows if row[0] != _ENTITIES]


def count_rows(connection: Connection, entity_id: str) -> dict[str, int]:
    """Return how many rows of an entity each table holds, those without any left out."""
    parameters = _parameters(connection, entity_id)
    counts = {}
    for table, condition in _conditions(connection).items():
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(table), condition),
            parameters,
        ).fetchone()
        if row is not None and row[0]:
            counts[table] = int(row[0])
    return counts


def erase(connection: Connection, entity_id: str) -> dict[str, int]:
    """Delete every row of an entity, in the caller's transaction.

    Whoever writes under :func:`~anomaly_assets.storage.entities.hold_entity` is waited for.

    Returns
    -------
    dict
        Rows deleted by table, those without any left out.
    """
    connection.execute("SELECT 1 FROM entities WHERE entity_id = %s FOR UPDATE", (entity_id,))
    parameters = _parameters(connection, entity_id)
    counts = {}
    for table, condition in _conditions(connection).items():
        deleted = connection.execute(
            sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), condition), parameters
        ).rowcount
        if deleted:
            counts[table] = deleted
    return counts


def sweep(connection: Connection, entity_id: str) -> int:
    """Delete what a process wrote of an entity from memory after it had been forgotten.

    Nothing is deleted of one that is there, be it again. Returns the number of rows.
    """
    with connection.transaction():
        found = connection.execute("SELECT 1 FROM entities WHERE entity_id = %s", (entity_id,))
        if found.fetchone() is not None:
            return 0
        return connection.execute("DELETE FROM alerts WHERE entity_id = %s", (entity_id,)).rowcount


def record_erasure(
    connection: Connection, subject: str, erased_by: str, counts: Mapping[str, int]
) -> None:
    """Note that somebody was forgotten, in the transaction that does it.

    Parameters
    ----------
    connection
        A connection within a transaction.
    subject
        Keyed digest of the identifier, 64 hexadecimal digits.
    erased_by
        Who has decided so.
    counts
        Rows deleted by table.
    """
    connection.execute(
        "INSERT INTO erasures (subject, erased_by, counts) VALUES (%s, %s, %s)",
        (subject, erased_by, Jsonb(dict(counts))),
    )


def _conditions(connection: Connection) -> dict[str, sql.Composable]:
    own = sql.SQL("entity_id = %(entity)s")
    beside = {table: sql.SQL(condition) for table, condition in BESIDE.items()}
    conditions: dict[str, sql.Composable] = {}
    for table in tables_with_entities(connection):
        extra = beside.pop(table, None)
        conditions[table] = own if extra is None else sql.SQL("{} OR {}").format(own, extra)
    return {**beside, **conditions, _ENTITIES: own}


def _parameters(connection: Connection, entity_id: str) -> dict[str, object]:
    tokens = connection.execute(
        "SELECT token_id FROM api_tokens WHERE entity_id = %s", (entity_id,)
    ).fetchall()
    sources = connection.execute(_SOURCES, {"entity": entity_id}).fetchall()
    return {
        "entity": entity_id,
        "tokens": [row[0] for row in tokens],
        "sources": [row[0] for row in sources],
        "named": json.dumps(entity_id)[1:-1].encode(),
    }
