"""Addresses that want to be told of results, in their table."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from psycopg.rows import class_row

from anomaly_assets.errors import InputError
from anomaly_assets.storage.entities import require_entity_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.storage.database import Connection

_LONGEST_URL: Final = 2000
_LONGEST_ERROR: Final = 500
_COLUMNS: Final = (
    "webhook_id, url, entity_id, events, created_at, created_by, disabled_at, failures, "
    "last_error, last_success_at, EXISTS (SELECT 1 FROM api_tokens AS t "
    "WHERE t.token_id = created_by AND (t.revoked_at IS NOT NULL OR t.expires_at <= now())) "
    "AS token_ended"
)
#: Webhooks that one entity, or the deployment as a whole, may have: each costs memory and time.
MOST_WEBHOOKS: Final = 100


class WebhookEvent(StrEnum):
    """What an address can be told of."""

    WINDOW = "window"
    ANOMALY = "anomaly"
    EXPLANATION = "explanation"


@dataclass(frozen=True)
class Webhook:
    """An address to which results are posted.

    Parameters
    ----------
    webhook_id
        Its number.
    url
        The address; it may hold a secret, so it is neither shown nor logged: see `shown`.
    entity_id
        Whose results; None: everybody's.
    events
        Of what it is told.
    created_at
        When it was made.
    created_by
        Number of the token it was made with; None: with none.
    disabled_at
        Since when nothing is posted; None: it is in use.
    failures
        Failed deliveries since the last that arrived.
    last_error
        Why the last one failed; None: it did not.
    last_success_at
        When one last arrived; None: never.
    token_ended
        Whether the token it was made with has expired or was revoked: nothing is posted then.
    """

    webhook_id: int
    url: str = field(repr=False)
    entity_id: str | None
    events: frozenset[WebhookEvent]
    created_at: datetime
    created_by: int | None
    disabled_at: datetime | None
    failures: int
    last_error: str | None
    last_success_at: datetime | None
    token_ended: bool

    def __post_init__(self) -> None:
        """Turn the database's texts into what they mean."""
        object.__setattr__(self, "events", frozenset(map(WebhookEvent, self.events)))

    @property
    def shown(self) -> str:
        """The address without what may be secret: scheme and host only."""
        parts = urlsplit(self.url)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{parts.hostname}{port}/..."

    @property
    def in_use(self) -> bool:
        """Whether anything is posted to it."""
        return self.disabled_at is None and not self.token_ended

    def wants(self, entity_id: str, event: WebhookEvent) -> bool:
        """Say whether it is to be told of an event of an entity."""
        return self.in_use and event in self.events and self.entity_id in {None, entity_id}


def add_webhook(
    connection: Connection,
    url: str,
    events: Iterable[WebhookEvent],
    *,
    entity_id: str | None = None,
    created_by: int | None = None,
) -> Webhook:
    """Store an address.

    Parameters
    ----------
    connection
        A connection to the database.
    url
        ``http://`` or ``https://``, with a host; user and password are refused.
    events
        Of what it is to be told; at least one.
    entity_id
        Whose results; None: everybody's.
    created_by
        Number of the token it is made with; None: with none.

    Raises
    ------
    InputError
        If address, events or entity are unusable, or there are :data:`MOST_WEBHOOKS` already.
    """
    require_webhook_url(url)
    wanted = sorted({str(event) for event in events})
    if not wanted:
        msg = f"a webhook is told of at least one of {', '.join(WebhookEvent)}"
        raise InputError(msg)
    if entity_id is not None:
        require_entity_id(entity_id)
    with connection.cursor(row_factory=class_row(Webhook)) as cursor:
        made = cursor.execute(
            "INSERT INTO webhooks (url, entity_id, events, created_by) "  # noqa: S608 - our own constant
            "SELECT %(url)s, %(entity_id)s, %(events)s, %(created_by)s WHERE (SELECT count(*) "
            "FROM webhooks WHERE entity_id IS NOT DISTINCT FROM %(entity_id)s::text) < %(most)s "
            f"RETURNING {_COLUMNS}",
            {
                "url": url,
                "entity_id": entity_id,
                "events": wanted,
                "created_by": created_by,
                "most": MOST_WEBHOOKS,
            },
        ).fetchone()
    if made is None:
        msg = f"there are {MOST_WEBHOOKS} webhooks already; remove one first"
        raise InputError(msg)
    return made


def require_webhook_url(url: str) -> None:
    """Refuse an address that nothing can be posted to; the message does not repeat it.

    Raises
    ------
    InputError
        If it is no web address, too long, or holds user and password.
    """
    if not _is_web_address(url):
        msg = (
            "the webhook's address is unusable; write https://host/path, "
            f"at most {_LONGEST_URL} characters"
        )
        raise InputError(msg)
    if "@" in urlsplit(url).netloc:
        msg = "the webhook's address holds a user or password; put a secret into its path instead"
        raise InputError(msg)


def list_webhooks(
    connection: Connection, *, entity_id: str | None = None, active: bool = False
) -> list[Webhook]:
    """Return webhooks in the order they were made.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        Only those made for this entity alone; None: all.
    active
        Only those that are in use.
    """
    with connection.cursor(row_factory=class_row(Webhook)) as cursor:
        found = cursor.execute(
            f"SELECT {_COLUMNS} FROM webhooks "  # noqa: S608 - our own constant
            "WHERE (%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s) "
            "ORDER BY webhook_id",
            {"entity_id": entity_id},
        ).fetchall()
    return [one for one in found if one.in_use or not active]


def find_webhook(connection: Connection, webhook_id: int) -> Webhook | None:
    """Return one webhook, or None."""
    with connection.cursor(row_factory=class_row(Webhook)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM webhooks WHERE webhook_id = %s",  # noqa: S608 - as above
            (webhook_id,),
        ).fetchone()


def remove_webhook(connection: Connection, webhook_id: int) -> bool:
    """Delete a webhook; returns whether there was one."""
    deleted = connection.execute("DELETE FROM webhooks WHERE webhook_id = %s", (webhook_id,))
    return deleted.rowcount > 0


def resume_webhook(connection: Connection, webhook_id: int) -> Webhook | None:
    """Use a paused webhook again, its failures forgotten; returns None if there is none."""
    with connection.cursor(row_factory=class_row(Webhook)) as cursor:
        return cursor.execute(
            "UPDATE webhooks SET disabled_at = NULL, failures = 0, last_error = NULL "  # noqa: S608 - our own constant
            f"WHERE webhook_id = %s RETURNING {_COLUMNS}",
            (webhook_id,),
        ).fetchone()


def note_delivery(
    connection: Connection,
    webhook_id: int,
    error: str | None = None,
    *,
    disable_after: int | None = None,
) -> Webhook | None:
    """Record how a delivery went; returns the webhook as it is now, None if it was removed.

    Parameters
    ----------
    connection
        A connection to the database.
    webhook_id
        Its number.
    error
        Why it failed, without the address; None: it arrived.
    disable_after
        After so many failures in a row nothing is posted any more; None: never.
    """
    with connection.cursor(row_factory=class_row(Webhook)) as cursor:
        return cursor.execute(
            "UPDATE webhooks SET "  # noqa: S608 - our own constant
            "failures = CASE WHEN %(error)s::text IS NULL THEN 0 ELSE failures + 1 END, "
            "last_error = %(error)s, "
            "last_success_at = CASE WHEN %(error)s::text IS NULL THEN now() "
            "ELSE last_success_at END, "
            "disabled_at = CASE WHEN %(error)s::text IS NOT NULL "
            "AND failures + 1 >= %(disable_after)s::int THEN coalesce(disabled_at, now()) "
            "ELSE disabled_at END "
            f"WHERE webhook_id = %(webhook_id)s RETURNING {_COLUMNS}",
            {
                "error": None if error is None else _storable(error),
                "disable_after": disable_after,
                "webhook_id": webhook_id,
            },
        ).fetchone()


def _is_web_address(url: str) -> bool:
    if len(url) > _LONGEST_URL or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _storable(text: str) -> str:
    """Make a text of somebody else's one that the database takes, and not too long."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_LONGEST_ERROR] or "failed"
