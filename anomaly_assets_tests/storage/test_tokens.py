"""The table of tokens refuses what the code would never write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly_assets.storage.tokens import find_token, insert_token, list_tokens

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database
    from anomaly_assets.storage.tokens import Token

DIGEST = bytes(range(32))


def insert(connection: Connection, digest: bytes = DIGEST) -> Token:
    """Store a token that reads and writes for everybody."""
    return insert_token(
        connection, digest, "x", entity_id=None, may_read=True, may_write=True, expires_at=None
    )


def test_a_token_is_found_by_its_digest_alone(database: Database) -> None:
    """The digest leads to the token, any other one to none."""
    with database.connect() as connection:
        made = insert(connection)
        assert find_token(connection, DIGEST) == made
        assert find_token(connection, DIGEST[::-1]) is None
        assert list_tokens(connection) == [made]


def test_one_digest_is_one_token(database: Database) -> None:
    """Two tokens never share a secret."""
    with database.connect() as connection:
        insert(connection)
        with pytest.raises(psycopg.errors.UniqueViolation):
            insert(connection)


@pytest.mark.parametrize(
    "change",
    [
        "may_read = false, may_write = false",
        "digest = 'aa_secret'",
        "expires_at = created_at",
    ],
)
def test_the_table_refuses_nonsense(database: Database, change: str) -> None:
    """Whoever writes by hand can store neither a secret nor a token that is good for nothing."""
    with database.connect() as connection:
        insert(connection)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE api_tokens SET {change}")  # noqa: S608 - from above
