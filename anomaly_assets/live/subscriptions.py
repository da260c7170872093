"""Results for those who listen: a log of the latest events, and how server-sent events carry it.

The log is bounded and in memory. A reader has a place in it instead of a queue of its own, so a
slow one costs nothing; who falls behind, or comes back after a restart, is told so by an event
``missed`` and reads what it lacks from ``GET /v1/anomalies``.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.storage.webhooks import WebhookEvent

if TYPE_CHECKING:
    from anomaly_assets.live.results import LiveResult

#: A proxy closes a connection that is silent for a minute, often for less.
HEARTBEAT_SECONDS: Final = 15.0
#: After this a client that lost its connection tries again, in milliseconds.
_RETRY_MILLISECONDS: Final = 3000
_KEPT_EVENTS: Final = 10_000
_HEARTBEAT: Final = b": still here\n\n"
#: Name of the event that tells a reader of a hole.
MISSED: Final = "missed"


@dataclass(frozen=True)
class Event:
    """Something that has happened, as it is sent.

    Parameters
    ----------
    number
        Its place in the log, from 1.
    kind
        What it is: the most that can be said of it.
    entity_id
        Whom it concerns.
    data
        The document.
    erased
        Whether nobody is to have it any more, since its entity was forgotten; its place stays.
    """

    number: int
    kind: WebhookEvent
    entity_id: str
    data: Mapping[str, Any]
    erased: bool = False

    def is_one_of(self, kinds: Collection[WebhookEvent]) -> bool:
        """Whether somebody asked for it who asked for these: an anomaly is a window, too."""
        if self.erased:
            return False
        return self.kind in kinds or (
            self.kind is WebhookEvent.ANOMALY and WebhookEvent.WINDOW in kinds
        )


def document(result: LiveResult) -> dict[str, Any]:
    """Return a result as JSON-safe builtins; unknown is None.

    Of the streams it holds those with a score, value beside expectation.
    """
    return {
        "entity_id": result.entity_id,
        "window_start": result.window_start.isoformat(),
        "window_end": result.window_end.isoformat(),
        "score": known(result.score),
        "confidence": known(result.confidence),
        "is_anomaly": result.is_anomaly,
        "suppressed_by": result.suppressed_by,
        "trigger": result.trigger,
        "episode_start": (
            None if result.episode_start is None else result.episode_start.isoformat()
        ),
        "streams": {
            name: {
                "value": known(one.value),
                "expected": known(one.expected),
                "score": known(one.score),
                "deviation": known(one.deviation),
            }
            for name, one in result.streams.items()
            if one.score is not None
        },
        "missing": list(result.missing),
        "provisional": result.provisional,
        "revision": result.revision,
        "explanation": None if result.explanation is None else result.explanation.to_dict(),
    }


def kind_of(result: LiveResult) -> WebhookEvent:
    """Return which event a result is: the most that can be said of it."""
    if result.explanation is not None:
        return WebhookEvent.EXPLANATION
    return WebhookEvent.ANOMALY if result.is_anomaly else WebhookEvent.WINDOW


def known(value: float | None) -> float | None:
    """Return a number that JSON can hold, or None.

    Examples
    --------
    >>> known(float("nan")) is None
    True
    """
    return None if value is None or not math.isfinite(value) else float(value)


class EventLog:
    """The latest events, for any number of readers.

    Parameters
    ----------
    kept
        How many events a reader may be behind.
    """

    def __init__(self, kept: int = _KEPT_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._next = 1
        self._news = asyncio.Event()
        # Another start of the process counts from 1 again: its numbers are others.
        self._start = secrets.token_hex(4)
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether no more events come."""
        return self._closed

    def publish(self, result: LiveResult) -> Event:
        """Add a result; readers that wait are woken."""
        event = Event(self._next, kind_of(result), result.entity_id, document(result))
        self._next += 1
        self._events.append(event)
        self._wake()
        return event

    def drop(self, entity_id: str) -> None:
        """Erase an entity's events; readers pass over them."""
        for place, event in enumerate(self._events):
            if event.entity_id == entity_id:
                self._events[place] = Event(event.number, event.kind, "", {}, erased=True)

    def close(self) -> None:
        """Let all readers come to an end."""
        self._closed = True
        self._wake()

    def identifier(self, number: int) -> str:
        """Return the ``id`` under which an event is sent, such as comes back as Last-Event-ID."""
        return f"{self._start}-{number}"

    def after(self, number: int) -> tuple[int, list[Event]]:
        """Return how many events after one are gone already, and those that are there."""
        first = self._events[0].number if self._events else self._next
        begin = max(number + 1, first)
        return begin - number - 1, [self._events[i - first] for i in range(begin, self._next)]

    def position(self, last_event_id: str | None) -> int | None:
        """Return the number of the event a reader has seen last.

        A new reader begins with what comes next; None is one that comes from before a restart, or
        with an identifier of somewhere else.
        """
        if not last_event_id:
            return self._next - 1
        start, _, text = last_event_id.partition("-")
        if start != self._start or not text.isascii() or not text.isdecimal():
            return None
        return min(int(text[:18]), self._next - 1)

    @property
    def latest(self) -> int:
        """Number of the newest event, 0 before the first."""
        return self._next - 1

    async def wait(self, number: int, seconds: float) -> None:
        """Wait until there is an event after one, or that many seconds have passed."""
        if self._next - 1 > number or self._closed:
            return
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def encode(kind: str, data: Mapping[str, Any], identifier: str | None = None) -> bytes:
    r"""Encode one server-sent event.

    Parameters
    ----------
    kind
        Its type; a single line.
    data
        The document: JSON on one line, so that nothing in it can end the event.
    identifier
        What a reader sends back as Last-Event-ID; None leaves that as it is.

    Examples
    --------
    >>> encode("window", {"note": "a\nb"}, "7").decode().splitlines()
    ['id: 7', 'event: window', 'data: {"note":"a\\nb"}', '']
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    lines = [f"event: {kind}", f"data: {text}"]
    if identifier is not None:
        lines.insert(0, f"id: {identifier}")
    return ("\n".join(lines) + "\n\n").encode()


async def server_sent_events(
    log: EventLog,
    wanted: Callable[[Event], bool],
    *,
    last_event_id: str | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> AsyncIterator[bytes]:
    """Yield events of a log as the body of ``text/event-stream``, until the log is closed.

    Parameters
    ----------
    log
        Where they come from.
    wanted
        Which events the reader may see and asked for.
    last_event_id
        The last one it has seen; it goes on behind that. Without one it begins with the next.
    heartbeat_seconds
        After so much silence a comment is sent.
    """
    clock = asyncio.get_running_loop().time
    position = log.position(last_event_id)
    yield f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
    spoke = clock()
    if position is None:
        position = log.latest
        why = "the events since yours are not kept any more; read GET /v1/anomalies"
        yield encode(MISSED, {"reason": why}, log.identifier(position))
    while True:
        gone, events = log.after(position)
        if gone:
            why = f"{gone} events were dropped, of any entity; read GET /v1/anomalies"
            yield encode(MISSED, {"reason": why, "dropped": gone}, log.identifier(position + gone))
        position += gone + len(events)
        for event in events:
            if wanted(event):
                yield encode(event.kind, event.data, log.identifier(event.number))
                spoke = clock()
        if log.closed:
            return
        await log.wait(position, max(0.0, spoke + heartbeat_seconds - clock()))
        # Events that this reader does not want keep no connection open.
        if clock() - spoke >= heartbeat_seconds and not log.closed:
            yield _HEARTBEAT
            spoke = clock()
