"""Messages arrive at real receivers by apprise; what does not arrive is said, without secrets."""

from __future__ import annotations

import asyncio
import email
import json
from email.policy import default

import pytest

from anomaly_assets.errors import SettingsError
from anomaly_assets.live.alerts.delivery import Attempt, Deliverer
from anomaly_assets.live.alerts.text import Text
from anomaly_assets.storage.alerts import AlertSeverity
from anomaly_assets_tests.live.receivers import HOST, http_receiver, mail_sink

# Apprise tries a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
TEXT = Text(
    "[critical] ann: anomaly", "<b>Heart rate</b> & more\n- 141 bpm", AlertSeverity.CRITICAL
)


def test_a_web_address_gets_title_text_and_severity() -> None:
    """What is posted is the message as it stands, marked as serious."""
    with http_receiver() as receiver:
        (attempt,) = asyncio.run(Deliverer([receiver.url("json")]).deliver(TEXT))
    (posted,) = receiver.posted
    document = json.loads(posted.body)
    assert (attempt.number, attempt.error) == (1, None)
    assert document["title"] == TEXT.title
    assert document["message"] == TEXT.body
    assert document["type"] == "failure"


def test_a_mail_is_taken_by_a_server() -> None:
    """A mail has the title as its subject, and markup in a text stays text."""

    async def send() -> str:
        async with mail_sink() as box:
            url = f"mailto://{HOST}:{box.port}?from=watch@example.com&to=ann@example.com"
            (attempt,) = await Deliverer([f"{url}&mode=insecure"]).deliver(TEXT)
            assert attempt.error is None
            return box.mails[0]

    mail = email.message_from_string(asyncio.run(send()), policy=default)
    body = mail.get_body(("plain", "html"))
    assert body is not None
    assert mail["Subject"] == TEXT.title
    assert mail["To"].addresses[0].addr_spec == "ann@example.com"
    assert "<b>Heart rate</b>" not in body.get_content() or body.get_content_type() == "text/plain"


def test_failures_are_tried_again_and_told_one_by_one() -> None:
    """An address that refuses twice gets the message at the third attempt."""
    seen: list[Attempt] = []
    with http_receiver() as receiver:
        receiver.answers = [500, 503]
        deliverer = Deliverer([receiver.url("json")], delays=(0.0, 0.0, 0.0))
        (last,) = asyncio.run(deliverer.deliver(TEXT, seen.append))
    assert len(receiver.posted) == 3
    assert (last.number, last.error) == (3, None)
    assert [attempt.error is None for attempt in seen] == [False, False, True]
    assert "500" in str(seen[0].error)


def test_addresses_do_not_wait_for_each_other() -> None:
    """One that is dead is given up after its attempts, the other has the message by then, once."""
    with http_receiver() as dead, http_receiver() as alive:
        dead.answers = [500] * 9
        urls = [dead.url("json"), alive.url("json")]
        first, second = asyncio.run(Deliverer(urls, delays=(0.0, 0.0)).deliver(TEXT))
    assert first.error is not None
    assert (second.number, second.error) == (1, None)
    assert (len(dead.posted), len(alive.posted)) == (3, 1)


def test_an_error_shows_no_part_of_an_address() -> None:
    """Password and path of an address are in no error and no representation."""
    url = "json://watcher:pass%2Fword99@nowhere.invalid/token-1234567"
    deliverer = Deliverer([url], delays=())
    (attempt,) = asyncio.run(deliverer.deliver(TEXT))
    assert attempt.error
    shown = f"{attempt}{deliverer.addresses}"
    for secret in ("pass%2Fword99", "pass/word99", "token-1234567", "watcher"):
        assert secret not in shown


def test_a_server_that_never_answers_is_given_up() -> None:
    """The time an attempt may take is bounded."""

    async def send() -> Attempt:
        async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await done.wait()
            writer.close()

        done = asyncio.Event()
        server = await asyncio.start_server(listen, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        deliverer = Deliverer([f"json://{HOST}:{port}/"], delays=(), timeout=0.3)
        (attempt,) = await deliverer.deliver(TEXT)
        done.set()
        server.close()
        return attempt

    assert asyncio.run(send()).error is not None


def test_without_addresses_it_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is told, but it is on record."""
    (attempt,) = asyncio.run(Deliverer([]).deliver(TEXT))
    assert attempt == Attempt("log", 1, None)
    assert TEXT.title in caplog.text


@pytest.mark.parametrize("url", ["nonsense", "slack://hush-hush", "gopher://secret-host/x"])
def test_an_unusable_address_is_refused_without_showing_it(url: str) -> None:
    """The error says which one by its place."""
    with pytest.raises(SettingsError, match="address 2") as caught:
        Deliverer(["json://localhost", url])
    assert url.partition("://")[2] not in str(caught.value) or "://" not in url
