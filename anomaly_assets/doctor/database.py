"""The database: version, schema, partitions, size, clock; and who is in it."""

from __future__ import annotations

import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from anomaly_assets.doctor.finding import Check, Finding, Installation, ok, problem, warning
from anomaly_assets.errors import CatalogueError, StorageError
from anomaly_assets.pipeline.completeness import complete_until
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.storage import migrate
from anomaly_assets.storage.entities import list_entities
from anomaly_assets.storage.partitions import SCHEMA
from anomaly_assets.storage.tables import PARTITIONED
from anomaly_assets.storage.tokens import list_tokens
from anomaly_assets.storage.webhooks import list_webhooks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection

_OLDEST_SERVER: Final = 150_000
_SKEW_SECONDS, _SKEW_BAD_SECONDS = 2.0, 60.0
_FULL: Final = 0.8
#: Windows behind that a busy machine may be, and that nothing but a stop explains.
_SLOW_WINDOWS, _STALLED_WINDOWS = 3, 12
_SOON: Final = timedelta(days=14)
_NAMED: Final = 5


def server(installation: Installation) -> Iterator[Finding]:
    """Look at version, extension and licence, and at how many connections are left."""
    with installation.reachable.connect() as connection:
        number = connection.info.server_version
        version = f"PostgreSQL {number // 10_000}.{number % 10_000}"
        if number < _OLDEST_SERVER:
            yield problem("server", f"{version} is too old", "Move to PostgreSQL 15 or later.")
        row = connection.execute(
            "SELECT extversion, current_setting('timescaledb.license', true) "
            "FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
        used, most = connection.execute(
            "SELECT (SELECT count(*) FROM pg_stat_activity), "
            "current_setting('max_connections')::int"
        ).fetchone() or (0, 1)
    if row is None:
        yield ok("server", f"{version}, without TimescaleDB: months and roll-ups are our own")
    else:
        yield ok("server", f"{version}, TimescaleDB {row[0]}, licence {row[1] or 'unknown'}")
    share = f"{used} of {most} connections are in use"
    if used > _FULL * most:
        advice = "Raise max_connections of the server, or run fewer processes."
        yield warning("connections", share, advice)
    else:
        yield ok("connections", share)


def schema(installation: Installation) -> Finding:
    """Look whether the tables are those of this version."""
    database = installation.reachable
    found, needed = migrate.current(database), migrate.head()
    if found is None:
        advice = "anomaly-assets up makes the tables."
        return problem("schema", "the database has none of our tables yet", advice)
    if found != needed:
        advice = (
            "Start this version once: every command brings the tables up to date. If the database "
            "is ahead, install the version that it was made with."
        )
        return problem("schema", f"at revision {found}, this version needs {needed}", advice)
    try:
        migrate.check(database)
    except StorageError as error:
        advice = "Undo by hand what was altered, or restore a backup."
        return problem("schema", " ".join(str(error).split()), advice)
    return ok("schema", f"at revision {found}, as it should be")


def partitions(installation: Installation) -> Finding:
    """Look whether next month has its place in every table."""
    month = (datetime.now(tz=UTC).replace(day=1) + timedelta(days=32)).strftime("%Y_%m")
    with installation.reachable.connect() as connection:
        kinds = dict(
            connection.execute(
                "SELECT relname, relkind FROM pg_class WHERE oid = ANY(SELECT to_regclass(name) "
                "FROM unnest(%s::text[]) AS name)",
                (list(PARTITIONED),),
            ).fetchall()
        )
        made = {
            row[0]
            for row in connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)", (SCHEMA,)
            )
        }
    native = [table for table in PARTITIONED if kinds.get(table) == "p"]
    missing = [table for table in native if f"{table}_{month}" not in made]
    if missing:
        advice = "The schedule hourly_upkeep makes them: is it on, and does the daemon run?"
        what = f"{', '.join(missing)} have no place for {month.replace('_', '-')} yet"
        return warning("partitions", what, advice)
    if not native:
        return ok("partitions", "TimescaleDB makes its chunks itself")
    return ok("partitions", f"made up to {month.replace('_', '-')} at least")


def size(installation: Installation) -> Finding:
    """Look how large the database is."""
    with installation.reachable.connect() as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return ok("size", f"the database has {(row[0] if row else 0) / 1e9:.2f} GB")


def clock(installation: Installation) -> Finding:
    """Look whether this machine and the server agree on the time."""
    with installation.reachable.connect() as connection:
        before = time.time()
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        after = time.time()
    ahead = (before + after) / 2.0 - (row[0] if row else before)
    told = f"this machine's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} "
    told += "the database server's"
    advice = "Set both by NTP: windows close, and tokens expire, by these clocks."
    if abs(ahead) > _SKEW_BAD_SECONDS:
        return problem("clock", told, advice)
    if abs(ahead) > _SKEW_SECONDS:
        return warning("clock", told, advice)
    return ok("clock", "agrees with the database server's")


def entities(installation: Installation) -> Iterator[Finding]:
    """Look who is watched: catalogues, time zones, quarantine."""
    database = installation.reachable
    deployment = Deployment(installation.settings, database, run_id="doctor")
    # The default one first: without it nobody new can be watched.
    found: list[Finding] = []
    try:
        deployment.catalogue(None)
    except CatalogueError as error:
        advice = "Correct the file, or ANOMALY_ASSETS_CATALOGUE."
        found.append(problem("entities", str(error), advice))
    with database.connect() as connection:
        rows = list_entities(connection)
    for name in sorted({row.catalogue for row in rows if row.catalogue}):
        try:
            deployment.catalogue(name)
        except CatalogueError as error:
            advice = "Correct the file; until then its entities are not processed."
            found.append(problem("entities", f"catalogue {name}: {error}", advice))
    for row in rows:
        if row.time_zone and not _is_zone(row.time_zone):
            advice = "Correct entities.time_zone, or install newer tzdata."
            what = f"entity {row.entity_id!r} has the unknown time zone {row.time_zone!r}"
            found.append(problem("entities", what, advice))
    quarantined = [row for row in rows if row.quarantined_reason is not None]
    for row in quarantined[:_NAMED]:
        advice = "Mend the cause; it is tried again every five minutes."
        what = f"entity {row.entity_id!r} is quarantined: {row.quarantined_reason}"
        found.append(warning("entities", what, advice))
    if len(quarantined) > _NAMED:
        what = f"{len(quarantined) - _NAMED} more entities are quarantined"
        found.append(warning("entities", what, "See entities.quarantined_reason."))
    yield from found or [ok("entities", f"{len(rows)} watched, all can be processed")]


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return False
    return True


def progress(installation: Installation) -> Finding:
    """Look how far behind the readings the results are."""
    database = installation.reachable
    deployment = Deployment(installation.settings, database, run_id="doctor")
    complete = complete_until(deployment, datetime.now(tz=UTC))
    with database.connect() as connection:
        slowest = _slowest(connection)
    if complete is None:
        advice = "Send some: anomaly-assets ingest FILES, or to the live API."
        return warning("progress", "no reading has arrived yet", advice)
    if slowest is None:
        advice = "anomaly-assets up processes them; anomaly-assets backfill does so once."
        return warning("progress", "no window has been processed yet", advice)
    entity_id, until = slowest
    behind = max(0, int((complete - until).total_seconds()) // 300)
    told = f"{behind} complete windows wait to be processed, of entity {entity_id!r}"
    advice = "Does the daemon run, did runs fail (see below)? anomaly-assets backfill catches up."
    if behind >= _STALLED_WINDOWS:
        return problem("progress", told, advice)
    if behind >= _SLOW_WINDOWS:
        return warning("progress", told, advice)
    return ok("progress", f"processed until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def _slowest(connection: Connection) -> tuple[str, datetime] | None:
    row: tuple[str, datetime] | None = connection.execute(
        "SELECT entity_id, aggregated_until FROM entities WHERE aggregated_until IS NOT NULL "
        "ORDER BY aggregated_until, entity_id LIMIT 1"
    ).fetchone()
    return row


def tokens(installation: Installation) -> Iterator[Finding]:
    """Look whether anybody may use the live API, and for how long."""
    now = datetime.now(tz=UTC)
    with installation.reachable.connect() as connection:
        all_of_them = list_tokens(connection)
    good = [
        token
        for token in all_of_them
        if token.revoked_at is None and (token.expires_at is None or token.expires_at > now)
    ]
    if not good:
        advice = "anomaly-assets tokens create NAME; without one nobody can use the live API."
        yield warning("tokens", "no token is good", advice)
        return
    ending = [one for one in good if one.expires_at is not None and one.expires_at < now + _SOON]
    for token in ending:
        advice = "Make another, give it to the sender, and revoke this one."
        what = f"token {token.token_id} ({token.name}) expires {token.expires_at:%Y-%m-%d}"
        yield warning("tokens", what, advice)
    if not ending:
        yield ok("tokens", f"{len(good)} are good")


def webhooks(installation: Installation) -> Iterator[Finding]:
    """Look for webhooks that were given up."""
    with installation.reachable.connect() as connection:
        known = list_webhooks(connection)
    paused = [webhook for webhook in known if webhook.disabled_at is not None]
    for webhook in paused:
        number = webhook.webhook_id
        advice = f"Mend the receiver, then: anomaly-assets webhooks resume {number}"
        yield warning("webhooks", f"webhook {number} is paused: {webhook.last_error}", advice)
    if not paused:
        yield ok("webhooks", f"{len(known)} in use")


CHECKS: Final = (
    Check("server", server),
    Check("schema", schema, seconds=30.0),
    Check("partitions", partitions),
    Check("size", size),
    Check("clock", clock),
    Check("entities", entities),
    Check("progress", progress, seconds=30.0),
    Check("tokens", tokens),
    Check("webhooks", webhooks),
)
