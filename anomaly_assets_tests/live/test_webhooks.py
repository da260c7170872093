"""Webhooks: signed, in order, tried again, and paused when nobody is there."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from anomaly_assets.live.posting import WebhookError
from anomaly_assets.live.subscriptions import EventLog
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.live.webhooks import (
    SIGNATURE_HEADER,
    Retries,
    WebhookSender,
    register_webhook,
    sign,
    try_webhook,
    verify,
    webhook_secret,
)
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.settings import Settings
from anomaly_assets.storage.webhooks import (
    Webhook,
    WebhookEvent,
    add_webhook,
    find_webhook,
    remove_webhook,
    resume_webhook,
)
from anomaly_assets_tests.live.alerts.results import result
from anomaly_assets_tests.live.api.serving import free_port
from anomaly_assets_tests.live.receivers import HOST, Receiver, http_receiver, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Database

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ALL = frozenset(WebhookEvent)
PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
LOOPBACK = IPv4Network("127.0.0.0/8")
FAST = Retries(delays=(0.0, 0.0), disable_after=3, waiting=50)


class Home:
    """A deployment and a receiver."""

    def __init__(self, database: Database, folder: Path, receiver: Receiver) -> None:
        self.database = database
        self.deployment = Deployment(Settings(home=folder, webhook_networks=(LOOPBACK,)), database)
        self.receiver = receiver
        self.log = EventLog()

    def add(
        self, events: frozenset[WebhookEvent] = ALL, entity: str | None = None, url: str = ""
    ) -> Webhook:
        """Store a webhook."""
        with self.database.connect() as connection:
            return add_webhook(connection, url or self.receiver.url(), events, entity_id=entity)

    def stored(self, webhook: Webhook) -> Webhook:
        """Return a webhook as it stands."""
        with self.database.connect() as connection:
            found = find_webhook(connection, webhook.webhook_id)
        assert found is not None
        return found

    async def sender(self, retries: Retries = FAST) -> WebhookSender:
        """Return a sender that knows the webhooks."""
        sender = WebhookSender(self.deployment, retries=retries)
        await sender.refresh()
        return sender


@pytest.fixture
def home(database: Database, tmp_path: Path) -> Iterator[Home]:
    """Return a deployment with a receiver."""
    with http_receiver() as receiver:
        yield Home(database, tmp_path, receiver)


def test_a_result_is_posted_and_signed(home: Home) -> None:
    """The receiver can prove by the secret alone who sent it, when, and that it is whole."""
    webhook = home.add()

    async def play() -> None:
        sender = await home.sender()
        sender.offer(home.log.publish(result(NOON)))
        await sender.stop()

    asyncio.run(play())
    (posted,) = home.receiver.posted
    header = posted.headers[SIGNATURE_HEADER]
    secret = webhook_secret(home.deployment, webhook)
    at, _, digest = header.removeprefix("t=").partition(",v1=")
    expected = hmac.new(secret.encode(), f"{at}.".encode() + posted.body, hashlib.sha256)
    assert digest == expected.hexdigest()
    assert verify(secret, posted.body, header, now=time.time())
    body = json.loads(posted.body)
    assert (body["event"], body["entity_id"], body["is_anomaly"]) == ("anomaly", "ann", True)
    assert posted.headers["X-Anomaly-Event"] == "anomaly"
    assert home.stored(webhook).last_success_at is not None


def test_a_signature_is_of_this_body_this_secret_and_now() -> None:
    """Anything else is refused, also what is no signature at all."""
    header = sign("s", b"{}", 1000)
    assert verify("s", b"{}", header, now=1300)
    assert not verify("s", b"{}", header, now=1301)
    assert not verify("s", b"{ }", header, now=1000)
    assert not verify("t", b"{}", header, now=1000)
    for odd in ("", "t=", "t=1000", "t=1000,v1=", "t=1000,v1=é", "v1=a,t=x", "t=²,v1=a"):
        assert not verify("s", b"{}", odd, now=1000)


def test_secrets_are_of_one_webhook_or_the_settings(home: Home, tmp_path: Path) -> None:
    """A receiver cannot forge what goes to another one, unless one secret was chosen for all."""
    first, second = home.add(), home.add()
    assert webhook_secret(home.deployment, first) != webhook_secret(home.deployment, second)
    assert webhook_secret(home.deployment, first) == webhook_secret(home.deployment, first)
    chosen = Deployment(Settings(home=tmp_path, webhook_secret=SecretStr("x" * 20)), home.database)
    assert webhook_secret(chosen, first) == webhook_secret(chosen, second) == "x" * 20


def test_each_hears_of_what_it_asked_for(home: Home) -> None:
    """By entity and kind; an anomaly is a window, too, and nothing comes twice."""
    home.add(frozenset({WebhookEvent.ANOMALY, WebhookEvent.WINDOW}), "ann")

    async def play() -> None:
        sender = await home.sender()
        for entity in ("ann", "bob"):
            sender.offer(home.log.publish(result(NOON, entity, score=0.1)))
            sender.offer(home.log.publish(result(NOON, entity)))
            sender.offer(home.log.publish(result(NOON, entity, explained=True)))
        await sender.stop()

    asyncio.run(play())
    bodies = [json.loads(posted.body) for posted in home.receiver.posted]
    assert [(b["entity_id"], b["event"]) for b in bodies] == [("ann", "window"), ("ann", "anomaly")]


def test_a_refused_result_is_tried_again_in_order(home: Home) -> None:
    """The same identifier comes until it is taken, and later results wait for it."""
    webhook = home.add()
    home.receiver.answers = [500, 302, 200]

    async def play() -> None:
        sender = await home.sender()
        for window in range(2):
            start = NOON + timedelta(minutes=5 * window)
            sender.offer(home.log.publish(result(start, score=0.1)))
        await sender.stop()

    asyncio.run(play())
    starts = [json.loads(posted.body)["window_start"][11:16] for posted in home.receiver.posted]
    assert starts == ["12:00", "12:00", "12:00", "12:05"]
    identifiers = [posted.headers["X-Anomaly-Delivery"] for posted in home.receiver.posted]
    assert len(set(identifiers)) == 2
    assert home.stored(webhook).failures == 0


def test_a_dead_one_is_paused_and_shown(home: Home) -> None:
    """After three results in a row nothing more is posted, and the reason is on record."""
    dead, alive = home.add(url=f"http://{HOST}:1/secret-path"), home.add()

    async def play() -> None:
        sender = await home.sender()
        for window in range(6):
            start = NOON + timedelta(minutes=5 * window)
            sender.offer(home.log.publish(result(start, score=0.1)))
        await until(lambda: home.stored(dead).disabled_at is not None, "it is paused")
        await sender.stop()
        sender = await home.sender()
        sender.offer(home.log.publish(result(NOON)))
        assert sender.waiting <= 1
        await sender.stop()

    asyncio.run(play())
    stored = home.stored(dead)
    assert stored.failures == 3
    assert "no answer" in str(stored.last_error)
    assert "secret-path" not in str(stored.last_error)
    assert len(home.receiver.posted) == 7
    assert home.stored(alive).disabled_at is None


def test_a_removed_one_gets_nothing_more(home: Home) -> None:
    """Removing takes effect at the next look at the table."""
    webhook = home.add()

    async def play() -> None:
        sender = await home.sender()
        with home.database.connect() as connection:
            assert remove_webhook(connection, webhook.webhook_id)
        await sender.refresh()
        sender.offer(home.log.publish(result(NOON)))
        await sender.stop()

    asyncio.run(play())
    assert home.receiver.posted == []


def test_one_that_is_slow_costs_bounded_memory(home: Home) -> None:
    """Beyond what may wait results are dropped and counted; another webhook gets them all."""
    home.add(url=f"http://{HOST}:1/")
    home.add()

    async def play() -> None:
        sender = await home.sender(Retries(delays=(60.0,), waiting=5))
        for window in range(20):
            start = NOON + timedelta(minutes=5 * window)
            sender.offer(home.log.publish(result(start, score=0.1)))
            await until(lambda n=window: len(home.receiver.posted) > n, "it is posted")  # type: ignore[misc]
        assert sender.dropped == 14
        assert sender.waiting <= 6
        await sender.stop(0.1)

    asyncio.run(play())
    assert len(home.receiver.posted) == 20


def test_a_paused_one_is_resumed(home: Home) -> None:
    """From the next look at the table it is posted to again, as if it had never failed."""
    webhook = home.add()
    home.receiver.answers = [500] * 9

    async def play() -> None:
        sender = await home.sender()
        for _ in range(3):
            sender.offer(home.log.publish(result(NOON)))
        await until(lambda: home.stored(webhook).disabled_at is not None, "it is paused")
        with home.database.connect() as connection:
            assert resume_webhook(connection, webhook.webhook_id) == home.stored(webhook)
        assert (home.stored(webhook).failures, home.stored(webhook).last_error) == (0, None)
        await sender.refresh()
        sender.offer(home.log.publish(result(NOON)))
        await sender.stop()

    asyncio.run(play())
    assert len(home.receiver.posted) == 10
    assert home.stored(webhook).in_use


def test_the_token_it_was_made_with_must_stand(home: Home) -> None:
    """Who has revoked a token has ended what was done with it."""
    book = TokenBook(home.database)
    _, token = book.issue("leaked")
    with home.database.connect() as connection:
        webhook = add_webhook(connection, home.receiver.url(), ALL, created_by=token.token_id)

    async def play() -> None:
        sender = await home.sender()
        sender.offer(home.log.publish(result(NOON)))
        await until(lambda: home.stored(webhook).last_success_at is not None, "it has arrived")
        book.revoke(token.token_id)
        await sender.refresh()
        sender.offer(home.log.publish(result(NOON)))
        await sender.stop()

    asyncio.run(play())
    assert len(home.receiver.posted) == 1
    assert home.stored(webhook).token_ended


def test_private_addresses_are_refused_when_added_and_when_posted_to(
    home: Home, tmp_path: Path
) -> None:
    """What was public when it was added may lead somewhere else later: nothing is posted then."""
    careful = Deployment(Settings(home=tmp_path), home.database)
    url = home.receiver.url().replace(HOST, "localhost")
    webhook = home.add(url=url)

    async def play() -> None:
        with pytest.raises(WebhookError, match="no address that may be posted to") as caught:
            await register_webhook(careful, url)
        assert "secret-path" not in str(caught.value)
        sender = WebhookSender(careful, retries=FAST)
        await sender.refresh()
        sender.offer(home.log.publish(result(NOON)))
        await sender.stop()

    asyncio.run(play())
    assert home.receiver.posted == []
    assert "may be posted to" in str(home.stored(webhook).last_error)


def test_trying_one_out_posts_a_signed_test(home: Home) -> None:
    """Once, whether it is paused or not; how it went changes nothing about it."""

    async def play() -> tuple[Webhook, str | None, str | None]:
        webhook = await register_webhook(home.deployment, home.receiver.url())
        home.receiver.answers = [500]
        return (
            webhook,
            await try_webhook(home.deployment, webhook),
            await try_webhook(home.deployment, webhook),
        )

    webhook, first, second = asyncio.run(play())
    assert (first, second) == ("answered 500, not 200", None)
    assert home.stored(webhook) == webhook
    posted = home.receiver.posted[1]
    assert posted.headers["X-Anomaly-Event"] == json.loads(posted.body)["event"] == "test"
    secret = webhook_secret(home.deployment, webhook)
    assert verify(secret, posted.body, posted.headers[SIGNATURE_HEADER], now=time.time())


def documented() -> str:
    """Return the receiver that the documentation shows."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(code)


@contextmanager
def documented_receiver(folder: Path, secret: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run it as the documentation says."""
    script = folder / "receive.py"
    script.write_text(documented())
    command = [sys.executable, str(script), secret, str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_documented_receiver_takes_what_is_genuine(home: Home, tmp_path: Path) -> None:
    """Copied from the page and started, it prints a result, and refuses with another secret."""
    ports = [free_port(), free_port()]
    genuine, forged = (home.add(url=f"http://{HOST}:{port}/") for port in ports)
    secret = webhook_secret(home.deployment, genuine)

    async def arrived(webhook: Webhook, answer: str | None) -> None:
        deadline = time.monotonic() + 20
        while (error := await try_webhook(home.deployment, webhook)) != answer:
            assert time.monotonic() < deadline, error
            await asyncio.sleep(0.05)

    async def play() -> None:
        await arrived(genuine, None)
        await arrived(forged, "answered 403, not 200")
        sender = await home.sender()
        sender.offer(home.log.publish(result(NOON)))
        await until(lambda: home.stored(genuine).last_success_at is not None, "it has arrived")
        await sender.stop()

    with (
        documented_receiver(tmp_path, secret, ports[0]) as receiver,
        documented_receiver(tmp_path, secret, ports[1]),
    ):
        asyncio.run(play())
        assert receiver.stdout is not None
        assert [receiver.stdout.readline() for _ in range(2)] == [
            "test None None\n",
            "anomaly ann 0.9\n",
        ]


def test_the_documented_check_is_ours() -> None:
    """It accepts and refuses what :func:`verify` does."""
    names: dict[str, Any] = {"__name__": "receive"}
    exec(documented(), names)  # noqa: S102 - our own page
    genuine = sign("s", b"{}", 1000)
    for header in (genuine, "", "t=", "t=1000", "t=1000,v1=", "t=1000,v1=é", "v1=a,t=x", "t=²"):
        for secret, body, now in (("s", b"{}", 1300), ("s", b"{}", 1301), ("t", b"{}", 1000)):
            ours = verify(secret, body, header, now=now)
            assert names["is_genuine"](secret, body, header, now) == ours
