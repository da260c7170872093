"""Nothing is left of an entity that is deleted, and nothing goes of any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.storage import erasing
from anomaly_assets.storage.tables import Base
from anomaly_assets_tests.pipeline.people import execute, query
from anomaly_assets_tests.storage.everything import store_everything

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

#: Tables that hold nothing of an entity; a new one without ``entity_id`` must be thought about.
NOBODYS = {"erasures"}
OWN = {name for name, table in Base.metadata.tables.items() if "entity_id" in table.columns}


@pytest.fixture
def people(database: Database) -> Database:
    """Return a database that holds something of ann and of bob in every table."""
    for entity_id in ("ann", "bob"):
        store_everything(database, entity_id)
    return database


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables."""
    return {
        name: query(database, f"SELECT * FROM {name} ORDER BY 1, 2")  # noqa: S608 - our own tables
        for name in Base.metadata.tables
    }


def erase(database: Database, entity_id: str) -> dict[str, int]:
    """Erase an entity in a transaction of its own."""
    with database.connect() as connection, connection.transaction():
        return erasing.erase(connection, entity_id)


def test_every_table_is_thought_of() -> None:
    """A table names its entity in a column, or is known to hold something or nothing of one."""
    assert set(Base.metadata.tables) == OWN | set(erasing.BESIDE) | NOBODYS


def test_the_schema_says_which_tables_hold_entities(database: Database) -> None:
    """The column alone decides; partitions are not counted beside their tables."""
    with database.connect() as connection:
        found = erasing.tables_with_entities(connection)
    assert set(found) == OWN - {"entities"}


def test_nothing_is_left(people: Database) -> None:
    """Every table loses its rows of ann; those of bob stay as they are, to the last of them."""
    everything = rows(people)
    with people.connect() as connection:
        counted = erasing.count_rows(connection, "ann")
    assert set(counted) == set(Base.metadata.tables) - NOBODYS
    assert erase(people, "ann") == counted
    left = rows(people)
    for table, before in everything.items():
        assert len(before) - len(left[table]) == counted.get(table, 0), table
        assert "ann" not in repr(left[table]), table
        assert set(map(repr, left[table])) <= set(map(repr, before)), table
    assert set(left["readings"]) == {r for r in everything["readings"] if r[0] == "bob"}


def test_a_table_that_is_added_later_is_not_overlooked(people: Database) -> None:
    """Nobody has to tell the code of a further column ``entity_id``."""
    execute(people, "CREATE TABLE diaries (page int, entity_id text)")
    execute(people, "INSERT INTO diaries VALUES (1, 'ann'), (2, 'bob')")
    assert erase(people, "ann")["diaries"] == 1
    assert query(people, "SELECT * FROM diaries") == [(2, "bob")]


def test_an_entity_that_was_never_watched_can_be_erased(database: Database) -> None:
    """Refused rows and tokens of somebody who is not in ``entities`` go, too."""
    execute(
        database,
        "INSERT INTO api_tokens (name, entity_id, digest, may_read, may_write) "
        "VALUES ('phone', 'cyd', sha256('x'), true, true)",
    )
    assert erase(database, "cyd") == {"api_tokens": 1}
    assert erase(database, "cyd") == {}


def test_a_sweep_takes_only_what_nobody_owns(people: Database) -> None:
    """Alerts that were stored after their entity had gone are deleted, those of others are not."""
    with people.connect() as connection:
        assert erasing.sweep(connection, "ann") == 0
        connection.execute("DELETE FROM entities WHERE entity_id = 'ann'")
        assert erasing.sweep(connection, "ann") == 1
        assert erasing.sweep(connection, "bob") == 0
    assert query(people, "SELECT entity_id FROM alerts") == [("bob",)]
