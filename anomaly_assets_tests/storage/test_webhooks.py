"""Webhooks in their table: what they want, how they fare, and no address shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.webhooks import (
    MOST_WEBHOOKS,
    WebhookEvent,
    add_webhook,
    find_webhook,
    list_webhooks,
    note_delivery,
    remove_webhook,
    resume_webhook,
)

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database
    from anomaly_assets.storage.webhooks import Webhook

URL = "https://hooks.example:8443/services/very-secret"
ANOMALIES = (WebhookEvent.ANOMALY,)


def noted(
    connection: Connection, webhook: Webhook, error: str | None = None, after: int | None = None
) -> Webhook:
    """Record a delivery to a webhook that is there."""
    found = note_delivery(connection, webhook.webhook_id, error, disable_after=after)
    assert found is not None
    return found


def test_a_webhook_comes_back_as_it_was_stored(database: Database) -> None:
    """Address, events and entity are those given; it is in use and has not failed."""
    with database.connect() as connection:
        made = add_webhook(connection, URL, [*WebhookEvent, *ANOMALIES], entity_id="ann")
        other = add_webhook(connection, "http://127.0.0.1/", ANOMALIES, created_by=7)
        assert find_webhook(connection, made.webhook_id) == made
        assert list_webhooks(connection) == [made, other]
        assert list_webhooks(connection, entity_id="ann") == [made]
    assert (made.url, made.events, made.failures) == (URL, frozenset(WebhookEvent), 0)
    assert (made.disabled_at, made.last_error, made.last_success_at) == (None, None, None)
    assert (other.entity_id, other.created_by) == (None, 7)


def test_addresses_are_not_shown(database: Database) -> None:
    """What may be secret in an address is neither in the repr nor in what people see."""
    with database.connect() as connection:
        made = add_webhook(connection, URL, ANOMALIES)
    assert made.shown == "https://hooks.example:8443/..."
    assert "very-secret" not in repr(made)


def test_a_webhook_is_told_of_what_it_wants(database: Database) -> None:
    """Its entity and its events, and nothing once it is disabled."""
    with database.connect() as connection:
        of_ann = add_webhook(connection, URL, ANOMALIES, entity_id="ann")
        of_all = add_webhook(connection, URL, WebhookEvent)
        disabled = noted(connection, of_all, "no answer", after=1)
    assert of_ann.wants("ann", WebhookEvent.ANOMALY)
    assert not of_ann.wants("ann", WebhookEvent.WINDOW)
    assert not of_ann.wants("bob", WebhookEvent.ANOMALY)
    assert of_all.wants("bob", WebhookEvent.EXPLANATION)
    assert not disabled.wants("bob", WebhookEvent.EXPLANATION)


def test_failures_in_a_row_disable(database: Database) -> None:
    """A success begins the count anew; the last of too many failures disables, once."""
    with database.connect() as connection:
        made = add_webhook(connection, URL, ANOMALIES)
        assert noted(connection, made, "answered 500", after=2).failures == 1
        well = noted(connection, made, after=2)
        assert (well.failures, well.last_error) == (0, None)
        assert well.last_success_at is not None
        assert noted(connection, made, "answered 500", after=2).disabled_at is None
        disabled = noted(connection, made, "", after=2)
        assert disabled.disabled_at is not None
        assert (disabled.failures, disabled.last_error) == (2, "failed")
        assert disabled.last_success_at == well.last_success_at
        assert noted(connection, made, "again", after=2).disabled_at == disabled.disabled_at
        assert list_webhooks(connection, active=True) == []
        assert len(list_webhooks(connection)) == 1


def test_whatever_a_receiver_says_can_be_stored(database: Database) -> None:
    """An error with a NUL or of any length is cut to what the database takes."""
    with database.connect() as connection:
        made = add_webhook(connection, URL, ANOMALIES)
        found = noted(connection, made, "a\0b" + "x" * 10_000)
        assert found.disabled_at is None
    assert found.last_error is not None
    assert found.last_error.startswith("a\ufffdb")
    assert len(found.last_error) == 500


def test_a_removed_webhook_is_gone(database: Database) -> None:
    """Removed it is neither found nor noted, and cannot be removed again."""
    with database.connect() as connection:
        made = add_webhook(connection, URL, ANOMALIES)
        assert remove_webhook(connection, made.webhook_id)
        assert not remove_webhook(connection, made.webhook_id)
        assert find_webhook(connection, made.webhook_id) is None
        assert note_delivery(connection, made.webhook_id) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example/secret",
        "ftp://hooks.example/secret",
        "file:///secret",
        "https:///secret",
        "https://hooks.example:0/secret",
        "https://hooks.example:99999/secret",
        "https://[hooks/secret",
        "https://hooks.example/secret path",
        "https://hooks.example/secret\r\nHost: other",
        "https://hooks.example/secret\0",
        "https://hooks.example/secret" + "x" * 2000,
        "https://ann:secret@hooks.example/",
        "https://ann@hooks.example/secret",
    ],
)
def test_unusable_addresses_are_refused(database: Database, url: str) -> None:
    """Nothing that cannot be posted to, and none with a password; none is repeated."""
    with database.connect() as connection, pytest.raises(InputError, match="address") as caught:
        add_webhook(connection, url, ANOMALIES)
    assert "secret path" not in str(caught.value)
    assert "hooks.example" not in str(caught.value)


def test_nothing_to_tell_and_nobody_possible_are_refused(database: Database) -> None:
    """A webhook has an event, and an entity that can exist."""
    with database.connect() as connection:
        with pytest.raises(InputError, match="at least one of window, anomaly, explanation"):
            add_webhook(connection, URL, ())
        with pytest.raises(InputError, match="entity id"):
            add_webhook(connection, URL, ANOMALIES, entity_id="")


@pytest.mark.parametrize("change", ["events = '{}'", "events = '{all}'", "url = 'file:///etc'"])
def test_the_table_refuses_nonsense(database: Database, change: str) -> None:
    """Whoever writes by hand can store neither unknown events nor another kind of address."""
    with database.connect() as connection:
        add_webhook(connection, URL, ANOMALIES)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE webhooks SET {change}")  # noqa: S608 - from above


def test_an_entity_has_so_many_and_no_more(database: Database) -> None:
    """Each costs memory and time; another entity, and the deployment, have places of their own."""
    with database.connect() as connection:
        for _ in range(MOST_WEBHOOKS):
            add_webhook(connection, URL, ANOMALIES, entity_id="ann")
        with pytest.raises(InputError, match="remove one first"):
            add_webhook(connection, URL, ANOMALIES, entity_id="ann")
        add_webhook(connection, URL, ANOMALIES, entity_id="bob")
        add_webhook(connection, URL, ANOMALIES)
        assert len(list_webhooks(connection)) == MOST_WEBHOOKS + 2


def test_a_paused_webhook_is_resumed(database: Database) -> None:
    """Its failures are forgotten; of one that is not there nothing is said."""
    with database.connect() as connection:
        made = add_webhook(connection, URL, ANOMALIES)
        assert not noted(connection, made, "down", after=1).in_use
        assert resume_webhook(connection, made.webhook_id) == made
        assert resume_webhook(connection, made.webhook_id + 1) is None


def test_a_webhook_ends_with_its_token(database: Database) -> None:
    """It is not among those in use once the token it was made with was revoked or has expired."""
    with database.connect() as connection:
        for number, column in enumerate(("revoked_at", "expires_at")):
            row = connection.execute(
                "INSERT INTO api_tokens (name, digest, may_read, may_write, created_at) "
                "VALUES ('t', %s, true, true, now() - interval '1 hour') RETURNING token_id",
                (bytes([number]) * 32,),
            ).fetchone()
            assert row is not None
            made = add_webhook(connection, URL, ANOMALIES, created_by=row[0])
            assert made.in_use
            connection.execute(
                f"UPDATE api_tokens SET {column} = now() WHERE token_id = %s",  # noqa: S608 - ours
                row,
            )
            found = find_webhook(connection, made.webhook_id)
            assert found is not None
            assert found.token_ended
        assert list_webhooks(connection, active=True) == []
        assert len(list_webhooks(connection)) == 2
