"""Server-sent events: nothing in a result breaks the format, and no reader misses in silence."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.live.subscriptions import (
    MISSED,
    EventLog,
    document,
    encode,
    server_sent_events,
)
from anomaly_assets.storage.webhooks import WebhookEvent
from anomaly_assets_tests.live.alerts.results import result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def parsed(body: bytes) -> list[dict[str, Any]]:
    """Read events as a browser does: fields by line, an empty line ends an event."""
    events = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and line[0] != ":")
        if "data" in fields:
            events.append({**fields, "data": json.loads(fields["data"])})
    return events


async def read(body: AsyncIterator[bytes]) -> bytes:
    """Return all that a closed log has to say."""
    return b"".join([piece async for piece in body])


def everything(log: EventLog, last: str | None = None, entity: str | None = None) -> list[Any]:
    """Return the events that a reader gets of a log that is closed then."""
    log.close()
    body = server_sent_events(
        log, lambda event: entity in {None, event.entity_id}, last_event_id=last
    )
    return parsed(asyncio.run(read(body)))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_whatever_it_holds_an_event_is_one_event(data: dict[str, Any]) -> None:
    """Line breaks of any kind in names and values end neither a field nor the event."""
    encoded = encode("window", data, "x-1")
    assert encoded.count(b"\n\n") == 1
    assert b"\r" not in encoded
    assert parsed(encoded) == [{"id": "x-1", "event": "window", "data": data}]


def test_a_reader_goes_on_where_it_was() -> None:
    """With Last-Event-ID a reader gets what came since, and nothing twice."""
    log = EventLog()
    for window in range(5):
        log.publish(result(NOON + timedelta(minutes=5 * window), score=0.1))
    events = everything(log, log.identifier(2))
    assert [event["id"] for event in events] == [log.identifier(n) for n in (3, 4, 5)]


def test_a_new_reader_begins_with_what_comes() -> None:
    """Without it nothing old is sent."""
    log = EventLog()
    log.publish(result(NOON))
    assert everything(log) == []


@pytest.mark.parametrize("last", ["0123abcd-7", "nonsense", "-", "-1", "²"])
def test_an_identifier_from_elsewhere_is_told_so(last: str) -> None:
    """After a restart a reader hears that it may have missed something."""
    log = EventLog()
    log.publish(result(NOON))
    (event,) = everything(log, last)
    assert event["event"] == MISSED
    assert "GET /v1/anomalies" in event["data"]["reason"]


def test_who_is_too_far_behind_is_told_how_far() -> None:
    """The log is bounded; the hole is an event of its own."""
    log = EventLog(kept=3)
    for window in range(10):
        log.publish(result(NOON + timedelta(minutes=5 * window), score=0.1))
    missed, *rest = everything(log, log.identifier(2))
    assert (missed["event"], missed["data"]["dropped"]) == (MISSED, 5)
    assert [event["id"] for event in rest] == [log.identifier(n) for n in (8, 9, 10)]


def test_numbers_beyond_the_log_are_no_harm() -> None:
    """A reader that claims to have seen the future gets what comes next."""
    log = EventLog()
    start = log.identifier(0).partition("-")[0]
    log.publish(result(NOON))
    assert everything(log, f"{start}-{'9' * 80}") == []


def test_only_what_is_wanted_is_sent() -> None:
    """Another entity's results do not pass."""
    log = EventLog()
    for entity in ("ann", "bob", "ann"):
        log.publish(result(NOON, entity))
    events = everything(log, log.identifier(0), "bob")
    assert [event["data"]["entity_id"] for event in events] == ["bob"]


def test_kinds() -> None:
    """A window, an anomaly, and an explanation are told apart; an anomaly is a window, too."""
    log = EventLog()
    window = log.publish(result(NOON, score=0.1))
    anomaly = log.publish(result(NOON))
    explained = log.publish(result(NOON, explained=True))
    kinds = [window.kind, anomaly.kind, explained.kind]
    assert kinds == [WebhookEvent.WINDOW, WebhookEvent.ANOMALY, WebhookEvent.EXPLANATION]
    assert anomaly.is_one_of({WebhookEvent.WINDOW})
    assert not window.is_one_of({WebhookEvent.ANOMALY})
    assert not explained.is_one_of({WebhookEvent.WINDOW})


def test_unknown_numbers_become_null() -> None:
    """NaN is no JSON: what is not known is null, in whatever place it stands."""
    odd = replace(result(NOON, score=None), confidence=float("nan"), gap_score=float("inf"))
    data = document(odd)
    assert data["score"] is None
    assert data["confidence"] is None
    json.dumps(data, allow_nan=False)
    assert data["streams"]["heart_rate"]["expected"] == 72.0


def test_events_arrive_as_they_come_with_heartbeats_in_between() -> None:
    """A waiting reader is woken by an event, and by silence; closing ends it."""

    async def play() -> list[bytes]:
        log = EventLog()
        body = server_sent_events(
            log, lambda event: event.entity_id == "ann", heartbeat_seconds=0.05
        )
        pieces = [await anext(body), await anext(body)]
        log.publish(result(NOON, "bob"))
        pieces.append(await anext(body))
        log.publish(result(NOON, "ann"))
        pieces.append(await anext(body))
        log.close()
        pieces += [piece async for piece in body]
        return pieces

    retry, first, second, event = asyncio.run(play())
    assert retry.startswith(b"retry: ")
    assert first == second
    assert first.startswith(b":")
    assert parsed(event)[0]["data"]["entity_id"] == "ann"


def test_unwanted_events_keep_no_connection_open() -> None:
    """A reader whose own entity is silent gets heartbeats even while others are busy."""

    async def play() -> None:
        log = EventLog()
        body = server_sent_events(log, lambda _: False, heartbeat_seconds=0.1)
        await anext(body)

        async def chatter() -> None:
            while True:
                log.publish(result(NOON, "bob"))
                await asyncio.sleep(0.01)

        busy = asyncio.create_task(chatter())
        piece = await asyncio.wait_for(anext(body), 10)
        busy.cancel()
        assert piece.startswith(b":")

    asyncio.run(play())
