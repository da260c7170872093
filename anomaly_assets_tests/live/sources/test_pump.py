"""Between source and sink: acknowledged when durable, one entity's fault its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anomaly_assets.live.readings import ACCEPTED, DUPLICATE, RawReading, RowResult
from anomaly_assets.live.sources.messages import document_rows, topic_rows
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.live.sources.source import Batch
from anomaly_assets_tests.live.sources.samples import Recorder, moment
from anomaly_assets_tests.live.sources.servers import running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anomaly_assets.live.readings import Row
    from anomaly_assets.live.sources.source import Settled


class Listed:
    """A source that yields given batches, then nothing more."""

    name = "listed"
    connected = True

    def __init__(self, *batches: Sequence[Row]) -> None:
        self._batches = batches
        self.acknowledged: list[Settled] = []

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield them."""

        async def ack(results: Settled) -> None:
            self.acknowledged.append(results)

        for rows in self._batches:
            yield Batch(rows, ack)
        await asyncio.Event().wait()


def rows(*entities: str) -> list[Row]:
    return [RawReading(name, "heart_rate", moment(n), 60.0) for n, name in enumerate(entities)]


async def accept(some: Sequence[Row]) -> list[RowResult]:
    return [ACCEPTED] * len(some)


def test_one_failing_entity_does_not_hold_up_the_others() -> None:
    """After some attempts with all, entities are stored one by one; the failing one is left."""
    source = Listed(rows("ann", "sick", "bob"), rows("ann"))
    sink = Recorder(accept)
    sink.failing_entity = "sick"

    async def scenario() -> None:
        async with running(Pump(source, sink, first_wait=0.001)) as pump:
            await until(lambda: len(source.acknowledged) == 2, "both batches are through")
        assert pump.figures.unsettled == 1
        assert pump.figures.stored == 3

    asyncio.run(scenario())
    assert source.acknowledged == [[ACCEPTED, None, ACCEPTED], [ACCEPTED]]


def test_nothing_is_acknowledged_while_nothing_can_be_stored() -> None:
    """While every entity fails the batch is offered again, and not given up."""
    source = Listed(rows("ann", "bob"))
    sink = Recorder(accept)
    sink.away = True

    async def scenario() -> None:
        async with running(Pump(source, sink, first_wait=0.001, longest_wait=0.01)) as pump:
            await until(lambda: pump.figures.retries >= 10, "many attempts")
            assert source.acknowledged == []
            sink.away = False
            await until(lambda: bool(source.acknowledged), "it is stored")

    asyncio.run(scenario())
    assert sink.rows == rows("ann", "bob")


def test_unexpected_error_of_the_sink_is_no_end() -> None:
    """An error nobody thought of is logged, and the batch offered again."""
    source = Listed(rows("ann"))
    calls = 0

    async def sink(some: Sequence[Row]) -> list[RowResult]:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ZeroDivisionError
        return await accept(some)

    async def scenario() -> None:
        async with running(Pump(source, sink, first_wait=0.001)):
            await until(lambda: bool(source.acknowledged), "it is stored")

    asyncio.run(scenario())
    assert calls == 3


def test_results_are_counted() -> None:
    """The figures tell new rows from repeated and refused ones."""
    source = Listed(rows("ann", "ann", "ann"))

    async def sink(_: Sequence[Row]) -> list[RowResult]:
        return [ACCEPTED, DUPLICATE, RowResult(accepted=False, reason="out_of_range")]

    async def scenario() -> None:
        async with running(Pump(source, sink)) as pump:
            await until(lambda: bool(source.acknowledged), "it is through")
        figures = pump.figures
        assert (figures.stored, figures.duplicate) == (1, 1)
        assert figures.refused == {"out_of_range": 1}

    asyncio.run(scenario())


def test_topics_that_are_not_entity_and_stream_are_malformed() -> None:
    """Too few or too many levels, or another prefix, name no stream."""
    for topic in ("ann", "home/ann", "home/ann/heart_rate/raw", "garden/ann/heart_rate"):
        (row,) = topic_rows(topic, b"61", "home")
        assert not isinstance(row, RawReading)
    (row,) = topic_rows("home/ann/heart_rate", b" 61 ", "home", moment(0))
    assert row == RawReading("ann", "heart_rate", moment(0), 61.0)


def test_array_is_read_up_to_its_fault() -> None:
    """Readings before a fault count; what follows is one malformed row."""
    found = document_rows(b'[{"entity_id": "a", "stream_id": "s", "value": 1}, oops]')
    assert [isinstance(row, RawReading) for row in found] == [True, False]
