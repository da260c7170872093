"""Entities brought into memory, and those that cannot be, side by side with everything else."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.live.restore import QUARANTINED_BY, restore_entity
from anomaly_assets.live.slots import record_quarantine
from anomaly_assets.logs import bind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from anomaly_assets.live.comparison import Comparison
    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.options import PipelineOptions
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.results import LiveCounts
    from anomaly_assets.live.slots import Slot, Slots
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

#: Entities restored at the same time.
_RESTORES: Final = 2


class Restorer:
    """Restores entities from the database, and sets those aside that cannot be.

    Parameters
    ----------
    deployment
        Settings and database.
    options
        When what failed is tried again.
    clock
        Tells the time, aware.
    slots
        The entities' places.
    counts
        Where it is counted.
    tell
        Takes outcomes that a restore brings up.
    owns
        Whether an entity is scored here.

    Attributes
    ----------
    quarantined : dict
        Reason by entity that is not processed.
    comparison : Comparison
        Asked before a state is replaced, so that what it said goes on record.
    forget : callable
        Told of an entity that is not there any more.
    """

    comparison: Comparison
    forget: Callable[[Slot], None]

    def __init__(  # noqa: PLR0913, PLR0917 - what a pipeline consists of
        self,
        deployment: Deployment,
        options: PipelineOptions,
        clock: Callable[[], datetime],
        slots: Slots,
        counts: LiveCounts,
        tell: Callable[[EntityState, list[Outcome]], object],
        owns: Callable[[str], bool],
    ) -> None:
        self.quarantined: dict[str, str] = {}
        self._deployment = deployment
        self._options = options
        self._clock = clock
        self._slots = slots
        self._counts = counts
        self._tell = tell
        self._owns = owns
        self._restores = asyncio.Semaphore(_RESTORES)
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether nothing is restored any more."""
        return self._stopped

    def restore(self, slot: Slot) -> None:
        """Have an entity restored from what is stored, unless it is being already."""
        if slot.restoring is None and not self._stopped:
            slot.restoring = asyncio.create_task(self._restore(slot))

    async def settled(self) -> None:
        """Wait until no entity is being restored."""
        while under_way := self._under_way():
            await asyncio.wait(under_way)
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Restore nothing any more; what is under way is broken off."""
        self._stopped = True
        tasks = self._under_way()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def quarantine(self, slot: Slot, error: Exception) -> None:
        """Process an entity no more until it has been tried again, and record why."""
        reason = f"{QUARANTINED_BY}{type(error).__name__}: {error}"
        slot.live = None
        slot.pending.clear()
        slot.retry_at = self._clock() + self._options.retry_every
        if self.quarantined.get(slot.entity_id) != reason:
            who = slot.entity_id
            logger.error(
                "entity %r is quarantined: %s", who, reason, exc_info=error, extra={"entity": who}
            )
        self.quarantined[slot.entity_id] = reason
        await self._record(slot.entity_id, reason)

    def database_away(self, error: Exception) -> None:
        """Note that the database was not there; what it was needed for is tried again."""
        self._counts.database_errors += 1
        logger.warning("the live path waits for the database: %s", error)

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [slot.restoring for slot in self._slots.all() if slot.restoring is not None]

    async def _restore(self, slot: Slot) -> None:
        bind(entity=slot.entity_id)
        try:
            async with self._restores:
                if slot.live is not None:
                    # What it said goes on record before it is replaced.
                    await self.comparison.verify([slot], everything=False)
                slot.overrun = False
                found = await asyncio.to_thread(
                    restore_entity,
                    self._deployment,
                    slot.entity_id,
                    self._options,
                    self._clock(),
                )
            if found is None:
                self.forget(slot)
                return
            # It may be another instance's by now.
            if not self._owns(slot.entity_id):
                self._slots.close(slot.entity_id)
                return
            self._counts.restored += 1
            self._counts.snapshots_refused += len(found.refused)
            made = slot.take_over(found, self._clock())
            revised = sum(outcome.revision > 0 for outcome in made)
            self._counts.revised += revised
            self._counts.windows += len(made) - revised
            self._tell(found.live, made)
            if found.released or slot.entity_id in self.quarantined:
                self.quarantined.pop(slot.entity_id, None)
                await self._record(slot.entity_id, None)
        except psycopg.OperationalError as error:
            self.database_away(error)
            slot.retry_at = self._clock() + self._options.check_every
        except Exception as error:  # noqa: BLE001 - one entity's fault must not stop the others
            await self.quarantine(slot, error)
        finally:
            slot.restoring = None

    async def _record(self, entity_id: str, reason: str | None) -> None:
        try:
            await asyncio.to_thread(record_quarantine, self._deployment.database, entity_id, reason)
        except psycopg.OperationalError as error:
            self.database_away(error)
