"""Rows of some tables as JSON and back: what people decided, to be carried from place to place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from anomaly_assets.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.database import Connection


@dataclass(frozen=True)
class Portable:
    """A table whose rows can be carried.

    Parameters
    ----------
    name
        The table.
    condition
        Which of its rows are worth it.
    identity
        Columns by which a row is known to be there already.
    """

    name: str
    condition: sql.SQL
    identity: tuple[str, ...]


#: Labels, the newest network of each entity, and the suggestions that somebody decided about.
TABLES: Final = (
    Portable(
        "labels",
        sql.SQL("true"),
        ("entity_id", "start_time", "end_time", "verdict", "author", "created_at"),
    ),
    Portable(
        "causal_networks",
        sql.SQL(
            "t.fitted_at = (SELECT max(n.fitted_at) FROM causal_networks AS n "
            "WHERE n.entity_id = t.entity_id)"
        ),
        ("entity_id", "fitted_at"),
    ),
    Portable("suggestions", sql.SQL("t.status <> 'open'"), ("entity_id", "kind", "subject")),
)


def portable(name: str) -> Portable:
    """Return the table of a name.

    Raises
    ------
    StorageError
        If it is none whose rows can be carried.
    """
    for table in TABLES:
        if table.name == name:
            return table
    known = ", ".join(table.name for table in TABLES)
    msg = f"rows of {name!r} cannot be taken in; there are {known}"
    raise StorageError(msg)


def rows_as_json(
    connection: Connection, table: Portable, entities: Sequence[str]
) -> tuple[str, int]:
    """Return rows of some entities as a JSON list, floats to the last bit, and how many."""
    row = connection.execute(
        sql.SQL(
            "SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t), '[]')::text, count(*) FROM {} AS t "
            "WHERE t.entity_id = ANY(%s) AND {}"
        ).format(sql.Identifier(table.name), table.condition),
        (list(entities),),
    ).fetchone()
    return ("[]", 0) if row is None else (str(row[0]), int(row[1]))


def take_rows(
    connection: Connection, table: Portable, document: str, entities: Sequence[str]
) -> int:
    """Add the rows of some entities that are not there yet; returns how many changed something.

    Numbers that the database gives are given anew. A suggestion that is still open here takes over
    the decision.
    """
    name = sql.Identifier(table.name)
    columns = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name = %s AND is_identity = 'NO' ORDER BY ordinal_position",
        (table.name,),
    ).fetchall()
    wanted = sql.SQL(", ").join(sql.Identifier(column) for (column,) in columns)
    same = sql.SQL(" AND ").join(
        sql.SQL("t.{0} IS NOT DISTINCT FROM r.{0}").format(sql.Identifier(column))
        for column in table.identity
    )
    parameters = {"document": document, "entities": list(entities)}
    rows = sql.SQL("jsonb_populate_recordset(NULL::{}, %(document)s::jsonb) AS r").format(name)
    changed = connection.execute(
        sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM {} WHERE r.entity_id = ANY(%(entities)s) "
            "AND NOT EXISTS (SELECT FROM {} AS t WHERE {})"
        ).format(name, wanted, wanted, rows, name, same),
        parameters,
    ).rowcount
    if table.name == "suggestions":
        changed += connection.execute(
            sql.SQL(
                "UPDATE suggestions AS t SET status = r.status, decided_at = r.decided_at, "
                "decided_by = r.decided_by FROM {} WHERE {} AND t.status = 'open' "
                "AND r.entity_id = ANY(%(entities)s)"
            ).format(rows, same),
            parameters,
        ).rowcount
    return changed
