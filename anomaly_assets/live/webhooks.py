"""Results posted to the addresses that asked for them: signed, tried again, paused when dead."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.posting import Poster, WebhookError
from anomaly_assets.storage.webhooks import (
    Webhook,
    WebhookEvent,
    add_webhook,
    list_webhooks,
    note_delivery,
    require_webhook_url,
)

if TYPE_CHECKING:
    from anomaly_assets.live.subscriptions import Event
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

SIGNATURE_HEADER: Final = "X-Anomaly-Signature"
_TIMEOUT_SECONDS: Final = 10.0
_REFRESH_SECONDS: Final = 10.0
#: Seconds that a look at where a new address leads may take.
_LOOK_SECONDS: Final = 5.0
#: Addresses that are waited for at the same time.
_AT_ONCE: Final = 64
#: What an address is told of unless it asks for something else.
DEFAULT_EVENTS: Final = frozenset({WebhookEvent.ANOMALY, WebhookEvent.EXPLANATION})
#: Kind of what is posted to try a webhook.
TEST_EVENT: Final = "test"


@dataclass(frozen=True)
class Retries:
    """How hard it is tried.

    Parameters
    ----------
    delays
        Seconds before the second, third, ... attempt.
    disable_after
        So many results in a row that did not arrive pause the webhook.
    waiting
        At most so many results wait for one webhook; more are dropped, the newest first.
    """

    delays: tuple[float, ...] = (1.0, 5.0, 30.0, 120.0)
    disable_after: int = 5
    waiting: int = 1000


def webhook_secret(deployment: Deployment, webhook: Webhook) -> str:
    """Return the secret that what is posted to a webhook is signed with.

    It is that of the settings, or else :func:`own_secret`.
    """
    common = deployment.settings.webhook_secret
    return own_secret(deployment, webhook) if common is None else common.get_secret_value()


def own_secret(deployment: Deployment, webhook: Webhook) -> str:
    """Return a webhook's own secret.

    It follows from the deployment's signing key, so that it is stored nowhere: show it to whoever
    made the webhook.
    """
    of = f"webhook/{webhook.webhook_id}/{webhook.url}".encode()
    digest = hmac.new(deployment.key, of, hashlib.sha256).digest()
    return "whsec_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def sign(secret: str, body: bytes, at: int) -> str:
    """Return the header that proves who posted a body, and when (seconds since the epoch).

    Examples
    --------
    >>> verify("s", b"{}", sign("s", b"{}", 1000), now=1060)
    True
    """
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(secret: str, body: bytes, header: str, *, now: float, tolerance: float = 300.0) -> bool:
    """Whether a signature is that of this body, and no older or newer than `tolerance` seconds."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at = parts.get("t", "")
    if not (at.isascii() and at.isdecimal()) or abs(now - int(at[:18])) > tolerance:
        return False
    return hmac.compare_digest(sign(secret, body, int(at)).encode(), header.encode())


def signed_headers(secret: str, kind: str, body: bytes, at: int) -> dict[str, str]:
    """Return the headers that go with a body: what it is, and who has sent it when."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "anomaly-assets",
        "X-Anomaly-Event": kind,
        # The same at each attempt: a receiver knows a repetition by it.
        "X-Anomaly-Delivery": hashlib.sha256(body).hexdigest()[:32],
        SIGNATURE_HEADER: sign(secret, body, at),
    }


async def register_webhook(
    deployment: Deployment,
    url: str,
    events: Collection[WebhookEvent] = DEFAULT_EVENTS,
    *,
    entity_id: str | None = None,
    created_by: int | None = None,
) -> Webhook:
    """Store an address after a look at where it leads; see :func:`add_webhook`.

    Raises
    ------
    InputError
        If address, events or entity are unusable, or there are too many already.
    WebhookError
        If it leads to no machine that may be posted to, as things stand now.
    StorageError
        If the database cannot be reached.
    """

    def add() -> Webhook:
        with deployment.database.connect() as connection:
            return add_webhook(connection, url, events, entity_id=entity_id, created_by=created_by)

    require_webhook_url(url)
    with _poster(deployment, _LOOK_SECONDS, resolvers=1) as poster:
        await poster.require_allowed(url)
    return await asyncio.to_thread(add)


async def try_webhook(deployment: Deployment, webhook: Webhook) -> str | None:
    """Post an event ``test`` once, signed like any other; returns None, or why it did not arrive.

    The webhook stays as it stands, in use or paused.
    """
    document = {"event": TEST_EVENT, "webhook_id": webhook.webhook_id, "sent_at": time.time()}
    body = json.dumps(document).encode()
    headers = signed_headers(
        webhook_secret(deployment, webhook), TEST_EVENT, body, int(time.time())
    )
    with _poster(deployment, _TIMEOUT_SECONDS, resolvers=1) as poster:
        try:
            await poster.post(webhook.url, body, headers)
        except WebhookError as error:
            return str(error)
    return None


class WebhookSender:
    """Posts events to every webhook that wants them, each at its own pace and in order.

    What waits is in memory: a receiver that was away longer than the retries, or while this process
    was restarted, reads ``GET /v1/anomalies``.

    Parameters
    ----------
    deployment
        Whose database holds the webhooks and how they fare, and whose secret signs.
    retries
        How hard it is tried.
    timeout
        Seconds an address has to answer.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        retries: Retries | None = None,
        timeout: float = _TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dropped = 0
        self._deployment = deployment
        self._retries = retries or Retries()
        self._clock = clock
        self._webhooks: list[Webhook] = []
        self._queues: dict[int, asyncio.Queue[Event]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._poster = Poster(deployment.settings.webhook_networks, timeout=timeout)

    async def run(self, every: float = _REFRESH_SECONDS) -> None:
        """Keep knowing which webhooks there are, until it is cancelled."""
        while True:
            try:
                await self.refresh()
            except (AnomalyAssetsError, psycopg.Error) as error:
                logger.warning("webhooks stay as they are: %s", error)
            await asyncio.sleep(every)

    async def refresh(self) -> None:
        """Read anew which webhooks there are; do so now and then, and after a change.

        Raises
        ------
        StorageError
            If the database cannot be reached; what was known stays in use.
        """
        self._webhooks = await asyncio.to_thread(self._read)
        in_use = {webhook.webhook_id for webhook in self._webhooks}
        for webhook_id in self._tasks.keys() - in_use:
            self._stop(webhook_id)

    def offer(self, event: Event) -> None:
        """Take an event for all who want it; returns at once."""
        for webhook in self._webhooks:
            if not _wants(webhook, event):
                continue
            queue = self._queues.get(webhook.webhook_id)
            if queue is None:
                queue = asyncio.Queue(self._retries.waiting)
                self._queues[webhook.webhook_id] = queue
                self._tasks[webhook.webhook_id] = asyncio.create_task(self._work(webhook, queue))
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self.dropped += 1
                if self.dropped % 100 == 1:
                    logger.warning(
                        "webhook %d is behind; %d results have been dropped by now",
                        webhook.webhook_id,
                        self.dropped,
                    )

    def drop(self, entity_id: str) -> None:
        """Let go of an entity's events that have not been posted yet."""
        for queue in self._queues.values():
            for _ in range(queue.qsize()):
                event = queue.get_nowait()
                queue.task_done()
                if event.entity_id != entity_id:
                    queue.put_nowait(event)

    @property
    def waiting(self) -> int:
        """How many results have not been posted yet."""
        return sum(queue.qsize() for queue in self._queues.values())

    async def stop(self, seconds: float = 5.0) -> None:
        """Post what waits, for at most so long, and end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                asyncio.gather(*(queue.join() for queue in self._queues.values())), seconds
            )
        tasks = list(self._tasks.values())
        for webhook_id in list(self._tasks):
            self._stop(webhook_id)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._poster.close()

    async def deliver(self, webhook: Webhook, event: Event) -> str | None:
        """Post one event, with retries; returns None, or why it did not arrive."""
        body = json.dumps(
            {"event": str(event.kind), "number": event.number, **event.data}, allow_nan=False
        ).encode()
        error = ""
        for delay in (0.0, *self._retries.delays):
            await asyncio.sleep(delay)
            try:
                await self._post(webhook, event.kind, body)
            except WebhookError as failure:
                error = str(failure)
                logger.info("webhook %d, %s: %s", webhook.webhook_id, webhook.shown, error)
            else:
                return None
        return f"{error}, {len(self._retries.delays) + 1} times"

    async def _post(self, webhook: Webhook, kind: WebhookEvent, body: bytes) -> None:
        secret = webhook_secret(self._deployment, webhook)
        async with self._at_once:
            headers = signed_headers(secret, kind, body, int(self._clock()))
            await self._poster.post(webhook.url, body, headers)

    async def _work(self, webhook: Webhook, queue: asyncio.Queue[Event]) -> None:
        while True:
            event = await queue.get()
            error = await self.deliver(webhook, event)
            try:
                now = await asyncio.to_thread(self._note, webhook.webhook_id, error)
            except (AnomalyAssetsError, psycopg.Error) as failure:
                logger.warning("webhook %d: not recorded: %s", webhook.webhook_id, failure)
                now = webhook
            queue.task_done()
            if now is None or not now.in_use:
                self._pause(webhook, queue, error)
                return

    def _pause(self, webhook: Webhook, queue: asyncio.Queue[Event], error: str | None) -> None:
        """Forget a webhook that was removed or has failed too often, with all that waits for it."""
        logger.warning(
            "webhook %d, %s, is paused (%s); anomaly-assets webhooks resume %d uses it once more",
            webhook.webhook_id,
            webhook.shown,
            error or "removed",
            webhook.webhook_id,
        )
        self._webhooks = [w for w in self._webhooks if w.webhook_id != webhook.webhook_id]
        self._queues.pop(webhook.webhook_id, None)
        self._tasks.pop(webhook.webhook_id, None)
        while not queue.empty():
            queue.get_nowait()
            queue.task_done()

    def _stop(self, webhook_id: int) -> None:
        self._queues.pop(webhook_id, None)
        self._tasks.pop(webhook_id).cancel()

    def _read(self) -> list[Webhook]:
        with self._deployment.database.connect() as connection:
            return list_webhooks(connection, active=True)

    def _note(self, webhook_id: int, error: str | None) -> Webhook | None:
        with self._deployment.database.connect() as connection:
            return note_delivery(
                connection, webhook_id, error, disable_after=self._retries.disable_after
            )


def _wants(webhook: Webhook, event: Event) -> bool:
    return webhook.entity_id in {None, event.entity_id} and event.is_one_of(webhook.events)


@contextlib.contextmanager
def _poster(deployment: Deployment, timeout: float, *, resolvers: int) -> Iterator[Poster]:
    poster = Poster(deployment.settings.webhook_networks, timeout=timeout, resolvers=resolvers)
    try:
        yield poster
    finally:
        poster.close()
