"""Which instance scores which shard: real locks, lost and taken over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import SettingsError, StorageError
from anomaly_assets.live.ownership import Ownership
from anomaly_assets.storage.database import Database
from anomaly_assets.streams.shards import shard_of
from anomaly_assets_tests.live.receivers import until
from anomaly_assets_tests.pipeline.people import query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


@asynccontextmanager
async def instance(
    database: Database, shards: int, wanted: Iterable[int]
) -> AsyncIterator[Ownership]:
    """Run an instance's ownership until the end of the block."""
    ownership = Ownership(database, shards, wanted)
    await ownership.start()
    task = asyncio.create_task(ownership.run())
    try:
        yield ownership
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ownership.stop()


def test_a_shard_has_one_owner_and_the_next_is_ready(database: Database) -> None:
    """A second instance stands by, and scores once the first is gone."""

    async def scenario() -> None:
        async with instance(database, 2, (0,)) as first:
            assert first.owned == {0}
            async with instance(database, 2, (0, 1)) as second:
                assert (second.role, second.roles) == ("owner", {"0": "standby", "1": "owner"})
                assert [one.owns("ann") for one in (first, second)] == [
                    shard_of("ann", 2) in one.owned for one in (first, second)
                ]
                await first.stop()
                await until(lambda: second.owned == {0, 1}, "it has taken over")

    asyncio.run(scenario())


def test_another_count_of_shards_is_refused(database: Database) -> None:
    """Two counts would score entities twice or not at all: the second is told what to do."""

    async def scenario() -> None:
        async with instance(database, 2, (0,)):
            with pytest.raises(SettingsError, match=r"among 3 shards.*among 2; stop all"):
                await Ownership(database, 3, (1,)).start()
        async with instance(database, 3, (1,)) as other:
            assert other.owned == {1}

    asyncio.run(scenario())


def test_a_lost_session_is_noticed_and_what_was_missed_is_looked_for(database: Database) -> None:
    """Without its session an instance scores nothing; it comes back, or another takes over."""

    async def scenario() -> None:
        async with instance(database, 1, (0,)) as only:
            seen: list[str] = []
            only.on_listening.append(lambda: seen.append("listening"))
            only.on_change.append(lambda lost: seen.append(f"{sorted(only.owned)} {sorted(lost)}"))
            _end_sessions(database)
            await until(lambda: "listening" in seen, "it listens again")
            assert seen == ["[] []", "[0] []", "listening"]
            async with instance(database, 1, (0,)) as spare:
                assert spare.role == "standby"
                await only.stop()
                await until(lambda: spare.owned == {0}, "it has taken over")

    asyncio.run(scenario())


def _end_sessions(database: Database) -> None:
    query(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'anomaly_assets_shards' AND datname = current_database()",
    )


def test_work_of_a_shard_goes_on_while_it_is_owned(database: Database) -> None:
    """It begins when the shard is taken, and is broken off when it is not any more."""

    async def scenario() -> None:
        began = asyncio.Event()
        ended = asyncio.Event()

        async def work() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with instance(database, 1, (0,)) as first, instance(database, 1, (0,)) as second:
            task = asyncio.create_task(second.while_owner(0, work))
            assert not began.is_set()
            await first.stop()
            await asyncio.wait_for(began.wait(), 20)
            await second.stop()
            await asyncio.wait_for(ended.wait(), 20)
            task.cancel()

    asyncio.run(scenario())


def test_a_database_that_is_away_is_named() -> None:
    """The start says so, without the password."""

    async def scenario() -> None:
        nowhere = Database("postgresql://ann:secret@127.0.0.1:1/nothing")
        with pytest.raises(StorageError, match=r"127\.0\.0\.1") as refused:
            await Ownership(nowhere, 1, (0,)).start()
        assert "secret" not in str(refused.value)

    asyncio.run(scenario())
