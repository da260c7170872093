"""Which instance takes which shard: PostgreSQL's own locks, held by a session.

A lock ends with the session that holds it, however that ends, so there is nothing to clean up and
no clock to agree on. An instance holds, shared, the lock of the count of shards it was started
with, and alone the lock of each shard that it scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from anomaly_assets.errors import SettingsError
from anomaly_assets.storage.handover import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]

#: First halves of the keys of the locks; the second ones are a count and the number of a shard.
_COUNT: Final = 0x616E6F01
_SHARD: Final = 0x616E6F02
#: So that either side notices within seconds that the other one is gone, even if it was cut off.
_CONNECTION: Final = {
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "anomaly_assets_shards",
    "options": "-c TimeZone=UTC -c statement_timeout=5s -c tcp_keepalives_idle=5 "
    "-c tcp_keepalives_interval=2 -c tcp_keepalives_count=3",
}


async def open_session(url: str) -> AsyncConnection:
    """Open a session that may hold shards and hears of readings stored by others.

    Raises
    ------
    psycopg.OperationalError
        If the database is away.
    """
    connection = await psycopg.AsyncConnection.connect(
        make_conninfo(url, **_CONNECTION), autocommit=True
    )
    try:
        await connection.execute(f"LISTEN {CHANNEL}")
    except BaseException:
        await connection.close()
        raise
    return connection


async def agree_on_count(connection: AsyncConnection, shards: int) -> None:
    """Hold the count of shards against that of the instances that run already.

    Raises
    ------
    SettingsError
        If they were started with another one.
    """
    await connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (_COUNT, shards))
    # Looked at after ours is there: of two that begin at the same time at least one sees the other.
    cursor = await connection.execute(
        "SELECT DISTINCT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND classid = %s::bigint::oid AND objsubid = 2 AND objid <> %s::bigint::oid",
        (_COUNT, shards),
    )
    others = sorted(row[0] for row in await cursor.fetchall())
    if others:
        await connection.execute("SELECT pg_advisory_unlock_shared(%s, %s)", (_COUNT, shards))
        msg = (
            f"this instance shares entities out among {shards} shards, another one that runs among "
            f"{', '.join(map(str, others))}; stop all instances, then start them with one count "
            "(ANOMALY_ASSETS_LIVE_SHARDS, or --shard 0/2)"
        )
        raise SettingsError(msg)


async def take_free(connection: AsyncConnection, shards: Collection[int]) -> frozenset[int]:
    """Take those of some shards that nobody holds; return which. With none it only asks.

    A shard that this session holds already must not be among them.
    """
    wanted: Sequence[int] = sorted(shards)
    cursor = await connection.execute(
        "SELECT shard, pg_try_advisory_lock(%s, shard) FROM unnest(%s::int[]) AS shard",
        (_SHARD, wanted),
    )
    return frozenset(shard for shard, taken in await cursor.fetchall() if taken)
