"""Upgrades: what an earlier version has stored is there afterwards, and scoring goes on with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import migrate
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.pipeline.people import WINDOWS, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

REVISIONS = migrate.revisions()
#: The first hours are stored by the earlier version, the last windows processed by this one.
BEFORE = WindowRange(WINDOWS.start, WINDOWS.end - 3 * WINDOW_SECONDS)
AFTER = WindowRange(BEFORE.end, WINDOWS.end)
#: Alembic's note of the revision.
_OTHERS = {"alembic_version"}
#: Explanations are of episodes since 0003: until then a record knew of its one window alone, and
#: going up fills in what follows from that.
_BEFORE_EPISODES = {"0001", "0002"}
_SCORES = (
    "SELECT timestamp, method, stream_id, anomaly_score, confidence FROM anomaly_scores "
    "WHERE timestamp >= %s ORDER BY 1, 2, 3"
)

Rows = dict[str, list[str]]


@dataclass(frozen=True)
class Stored:
    """A database that was processed by this version, and what comes next."""

    database: Database
    home: Path
    scores: list[tuple[object, ...]]


def columns(database: Database) -> dict[str, list[str]]:
    """Return the columns of every table of ours."""
    rows = query(
        database,
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND is_generated = 'NEVER' ORDER BY 1, ordinal_position",
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return {table: names for table, names in found.items() if table not in _OTHERS}


def lasting(wanted: dict[str, list[str]], revision: str) -> dict[str, list[str]]:
    """Return the columns that a revision and the newest one mean the same by."""
    changed = "record" if revision in _BEFORE_EPISODES else None
    return {
        table: [n for n in names if table != "causal_explanations" or n != changed]
        for table, names in wanted.items()
    }


def contents(database: Database, wanted: dict[str, list[str]]) -> Rows:
    """Return the rows of tables as text, to the last bit of each float, in order."""
    found = {}
    with database.connect() as connection:
        for table, names in wanted.items():
            statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
                sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
            )
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                text = b"".join(bytes(part) for part in copy).decode()
            found[table] = sorted(text.splitlines())
    return found


def fill(database: Database, wanted: dict[str, list[str]], rows: Rows) -> None:
    """Put rows into tables, whatever refers to whatever."""
    with database.connect() as connection:
        ensure_partitions(connection, WINDOWS.start_time, WINDOWS.end_time)
        connection.execute("SET session_replication_role = replica")
        for table, names in wanted.items():
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
            )
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write("".join(f"{row}\n" for row in rows[table]))


@pytest.fixture(scope="module")
def stored(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Process a person's hours, keep a copy of the database there, and process the next windows."""
    home = tmp_path_factory.mktemp("home")
    deployment = deployment_of(module_database, home)
    load_people(module_database, ["ann"])
    run(deployment, BEFORE)
    copy = Database(module_database.sibling_url(f"{module_database.name}_dagster"))
    with Database(module_database.sibling_url("postgres")).connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(copy.name), sql.Identifier(module_database.name)
            )
        )
    run(deployment, AFTER)
    scores = query(module_database, _SCORES, AFTER.start_time)
    assert len({row[0] for row in scores}) == len(AFTER)
    return Stored(copy, home, scores)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_keeps_rows_and_scores(
    stored: Stored, empty_database_url: str, revision: str
) -> None:
    """From each earlier schema: all rows are the same, the next windows score to the same bits."""
    database = Database(empty_database_url)
    migrate.upgrade(database, revision)
    there, then = columns(stored.database), columns(database)
    common = {
        table: [name for name in names if name in there[table]]
        for table, names in then.items()
        if table in there
    }
    compared = lasting(common, revision)
    rows = contents(stored.database, common)
    assert sum(map(len, rows.values())) > 1000
    fill(database, common, rows)
    migrate.upgrade(database)
    migrate.check(database)
    assert contents(database, compared) == contents(stored.database, compared)
    run(deployment_of(database, stored.home), AFTER)
    assert query(database, _SCORES, AFTER.start_time) == stored.scores


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_down_and_up_again_keeps_what_both_know(
    stored: Stored, empty_database_url: str, revision: str
) -> None:
    """Back to an earlier schema and up again, scoring goes on as if nothing had been."""
    database = Database(empty_database_url)
    migrate.upgrade(database)
    everything = columns(database)
    rows = contents(stored.database, everything)
    fill(database, everything, rows)
    migrate.downgrade(database, revision)
    known = {
        table: [name for name in names if name in everything.get(table, ())]
        for table, names in columns(database).items()
    }
    kept = lasting(known, revision)
    migrate.upgrade(database)
    migrate.check(database)
    assert contents(database, kept) == contents(stored.database, kept)
    run(deployment_of(database, stored.home), AFTER)
    assert query(database, _SCORES, AFTER.start_time) == stored.scores


def test_a_schema_of_a_newer_version_is_refused(database: Database) -> None:
    """Older code neither migrates nor uses it, and says which way out there is."""
    with database.connect() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for use in (migrate.upgrade, migrate.check, lambda one: migrate.downgrade(one, REVISIONS[0])):
        with pytest.raises(StorageError, match=r"revision 9999.*a newer version has migrated it"):
            use(database)
    assert migrate.current(database) == "9999"
