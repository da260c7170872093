"""Monthly partitions of the large tables.

Children live in the schema ``partitions``, named ``<table>_<year>_<month>``, with UTC months as
bounds. There is no default partition: it would block the creation of later ones.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg import sql

from anomaly_assets.errors import InputError
from anomaly_assets.storage.database import connect_again
from anomaly_assets.storage.tables import PARTITIONED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.database import Connection

SCHEMA = "partitions"
#: Key of the advisory lock under which months are made.
_LOCK = 0x616E6F6D_70617274
_MAX_MONTHS = 12 * 200


def ensure_partitions(connection: Connection, start: datetime, end: datetime) -> list[str]:
    """Make the monthly partitions of ``[start, end]`` in every partitioned table, where missing.

    Safe to call from any number of processes at once, and within a transaction: missing months are
    made in a short transaction on a connection of their own, which takes no lock that readers or
    writers of the tables hold. So no caller waits for another one's long transaction.

    Parameters
    ----------
    connection
        A connection to the database.
    start, end
        First and last moment that must have a place.

    Returns
    -------
    list of str
        Names of the partitions made.

    Raises
    ------
    InputError
        If the range is backwards or longer than 200 years, which is a wrong clock.
    """
    return ensure_months(connection, _months(start, end))


def ensure_months(connection: Connection, months: Sequence[datetime]) -> list[str]:
    """Make the partitions of single months, as :func:`ensure_partitions` does.

    Parameters
    ----------
    connection
        A connection to the database.
    months
        Any moment of each month.

    Returns
    -------
    list of str
        Names of the partitions made.
    """
    wanted = [_months(moment, moment)[0] for moment in months]
    missing = _missing(connection, wanted)
    if not missing:
        return []
    with connect_again(connection) as own, own.transaction():
        # The server cannot see that a caller waits here for its own second connection: rather fail
        # than hang when somebody drops or alters the tables at the same time.
        own.execute("SET LOCAL lock_timeout = '30s'")
        own.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        missing = _missing(own, wanted)
        for table, month in missing:
            _create(own, table, month)
    return [_name(table, month) for table, month in missing]


def _months(start: datetime, end: datetime) -> list[datetime]:
    if start.tzinfo is None or end.tzinfo is None or end < start:
        msg = f"no months between {start} and {end}: give aware moments in order"
        raise InputError(msg)
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    low, high = first.year * 12 + first.month - 1, last.year * 12 + last.month - 1
    if high - low > _MAX_MONTHS:
        msg = f"readings from {start} to {end} span more than 200 years; the clock of one is wrong"
        raise InputError(msg)
    return [
        datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in range(low, high + 1)
    ]


def _missing(connection: Connection, months: list[datetime]) -> list[tuple[str, datetime]]:
    names = {_name(table, month): (table, month) for table in PARTITIONED for month in months}
    found = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relispartition AND c.relname = ANY(%s)",
        (SCHEMA, list(names)),
    )
    for (name,) in found.fetchall():
        del names[name]
    if not names:
        return []
    plain = {table for table in PARTITIONED if _kind(connection, table) != "p"}
    return [(table, month) for table, month in names.values() if table not in plain]


def _kind(connection: Connection, table: str) -> str:
    """Return ``p`` of a partitioned table, ``r`` of another one (a hypertable among them)."""
    row = connection.execute(
        "SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", (table,)
    ).fetchone()
    return "" if row is None else str(row[0])


def _create(connection: Connection, table: str, month: datetime) -> None:
    following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    child = sql.Identifier(SCHEMA, _name(table, month))
    parent = sql.Identifier(table)
    # CREATE ... PARTITION OF would lock the parent against all readers; attaching does not.
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            parent, child, sql.Literal(month.isoformat()), sql.Literal(following.isoformat())
        )
    )


def _name(table: str, month: datetime) -> str:
    return f"{table}_{month.year:04d}_{month.month:02d}"
