"""What people have said since: entities in memory are decided about by the newest versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anomaly_assets.live.decisions import newest_feedback, read_feedback

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.live.slots import Slots
    from anomaly_assets.pipeline.deployment import Deployment


class FeedbackTaker:
    """Looks for new versions of the feedback, and has them decide.

    Parameters
    ----------
    deployment
        Where they are stored.
    slots
        The entities' places.
    tell
        Takes outcomes of which something else is said now.
    """

    def __init__(
        self,
        deployment: Deployment,
        slots: Slots,
        tell: Callable[[EntityState, list[Outcome]], list[LiveResult]],
    ) -> None:
        self._deployment = deployment
        self._slots = slots
        self._tell = tell
        self._seen = 0

    async def take(self) -> int:
        """Decide by the newest versions; return of how many windows something else is said now."""
        newest = await asyncio.to_thread(newest_feedback, self._deployment)
        if newest == self._seen:
            return 0
        slots = self._slots.all()
        states = {slot.entity_id: slot.live for slot in slots if slot.live is not None}
        entities = [live.entity for live in states.values()]
        histories = await asyncio.to_thread(read_feedback, self._deployment, entities)
        told = 0
        settled = True
        for slot in slots:
            live = states.get(slot.entity_id)
            if slot.restoring is not None or slot.live is not live:
                # Its new state may have been read before the version was made: looked at again.
                settled = False
            elif live is not None:
                history = histories[slot.entity_id]
                if history.versions != live.feedback.versions:
                    told += len(self._tell(live, live.take_feedback(history)))
        if settled:
            self._seen = newest
        return told
