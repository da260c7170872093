"""Idempotency keys: done once, answered alike as often as it is asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.idempotency import (
    Claim,
    Standing,
    answer,
    claim,
    prune_keys,
    release,
)

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database

BODY = sha256(b"body").digest()
OTHER = sha256(b"other").digest()
DAY = timedelta(days=1)


def ask(
    connection: Connection, key: str = "k", digest: bytes = BODY, token_id: int = 1
) -> Standing:
    """Return how a key stands, and claim it where it is free."""
    return claim(connection, token_id, key, digest, keep=DAY).standing


def pass_time(connection: Connection, span: timedelta) -> None:
    """Make every claim so much older."""
    connection.execute("UPDATE idempotency_keys SET claimed_at = claimed_at - %s", (span,))


def test_the_first_answer_is_the_answer(database: Database) -> None:
    """A repetition gets status and body of the first, to the byte, whatever bytes they are."""
    body = b'{"reason": "\\u0000"}\xff\x00'
    with database.connect() as connection:
        assert ask(connection) is Standing.CLAIMED
        assert answer(connection, 1, "k", 202, body)
        assert not answer(connection, 1, "k", 500, b"later")
        assert claim(connection, 1, "k", BODY, keep=DAY) == Claim(Standing.ANSWERED, 202, body)


def test_who_is_at_it_is_not_disturbed(database: Database) -> None:
    """While a request is under way its repetition has to wait, and another body is refused."""
    with database.connect() as connection:
        assert ask(connection) is Standing.CLAIMED
        assert ask(connection) is Standing.IN_FLIGHT
        assert ask(connection, digest=OTHER) is Standing.OTHER_REQUEST
        answer(connection, 1, "k", 202, b"{}")
        assert ask(connection, digest=OTHER) is Standing.OTHER_REQUEST


def test_tokens_do_not_meet(database: Database) -> None:
    """The same key of another token is another key."""
    with database.connect() as connection:
        ask(connection)
        answer(connection, 1, "k", 202, b"mine")
        assert ask(connection, token_id=2, digest=OTHER) is Standing.CLAIMED
        assert ask(connection, token_id=2) is Standing.OTHER_REQUEST


def test_a_dead_process_does_not_block_its_key(database: Database) -> None:
    """After a minute without an answer the same request is taken over, another one is not."""
    with database.connect() as connection:
        ask(connection)
        pass_time(connection, timedelta(seconds=59))
        assert ask(connection) is Standing.IN_FLIGHT
        pass_time(connection, timedelta(seconds=2))
        assert ask(connection, digest=OTHER) is Standing.OTHER_REQUEST
        assert ask(connection) is Standing.CLAIMED
        assert ask(connection) is Standing.IN_FLIGHT


def test_a_failed_request_is_done_afresh(database: Database) -> None:
    """A released key can be claimed, with any body; an answered one cannot be released."""
    with database.connect() as connection:
        ask(connection)
        release(connection, 1, "k")
        assert ask(connection, digest=OTHER) is Standing.CLAIMED
        answer(connection, 1, "k", 202, b"{}")
        release(connection, 1, "k")
        assert ask(connection, digest=OTHER) is Standing.ANSWERED


def test_answers_are_kept_so_long(database: Database) -> None:
    """An answer older than that is as if it had never been, deleted or not."""
    with database.connect() as connection:
        for key in ("k", "l"):
            ask(connection, key)
            answer(connection, 1, key, 202, b"{}")
        pass_time(connection, DAY + timedelta(minutes=1))
        assert ask(connection, digest=OTHER) is Standing.CLAIMED
        assert prune_keys(connection, DAY) == 1
        assert ask(connection, "l") is Standing.CLAIMED
        assert prune_keys(connection, DAY) == 0


def test_of_several_at_once_one_claims(database: Database) -> None:
    """However many send the same request at the same moment, one of them does it."""
    start = Barrier(6)

    def race(_: int) -> Standing:
        with database.connect() as connection:
            start.wait()
            return ask(connection)

    with ThreadPoolExecutor(6) as pool:
        standings = sorted(pool.map(race, range(6)))
    assert standings == [Standing.CLAIMED] + [Standing.IN_FLIGHT] * 5


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "a\nb", "ä"])
def test_keys_that_cannot_be_stored_are_refused(database: Database, key: str) -> None:
    """A key is a short printable text; the message says so."""
    with (
        database.connect() as connection,
        pytest.raises(InputError, match="1 to 200 printable ASCII"),
    ):
        ask(connection, key)


def test_hostile_keys_are_only_keys(database: Database) -> None:
    """SQL in a key is stored and found like any other text."""
    key = "'); DROP TABLE idempotency_keys; --"
    with database.connect() as connection:
        assert ask(connection, key) is Standing.CLAIMED
        assert ask(connection, key) is Standing.IN_FLIGHT
        assert ask(connection) is Standing.CLAIMED
