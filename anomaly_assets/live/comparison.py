"""What was said, held against what is stored; what is stored has the last word."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.live.outcomes import differences
from anomaly_assets.live.verification import changed_since, outdated, read_stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.results import Difference, LiveCounts
    from anomaly_assets.live.slots import Slot
    from anomaly_assets.live.verification import StoredWindow
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

_SHOWN: Final = 100


class Comparison:
    """Finds windows that are stored otherwise than they were said.

    Parameters
    ----------
    deployment
        Where they are stored.
    counts
        Where it is counted.
    tell
        Takes outcomes that replace what was said of an entity.
    restore
        Has an entity restored from what is stored.

    Attributes
    ----------
    recent : deque of Difference
        The latest differences that nothing accounts for.
    """

    def __init__(
        self,
        deployment: Deployment,
        counts: LiveCounts,
        tell: Callable[[EntityState, list[Outcome]], object],
        restore: Callable[[Slot], None],
    ) -> None:
        self.recent: deque[Difference] = deque(maxlen=_SHOWN)
        self._deployment = deployment
        self._counts = counts
        self._tell = tell
        self._restore = restore

    def drop(self, entity_id: str) -> None:
        """Let go of an entity's differences."""
        kept = [one for one in self.recent if one.entity_id != entity_id]
        self.recent.clear()
        self.recent.extend(kept)

    async def verify(self, slots: list[Slot], *, everything: bool) -> list[Difference]:
        """Compare what was said of some entities with what is stored by now.

        Windows with readings that have not been taken in yet are left for later. With `everything`,
        those are compared too that were found as said before, if they were stored anew since.
        """
        states = {slot.entity_id: slot.live for slot in slots if slot.live is not None}
        said = {entity_id: _comparable(live, everything) for entity_id, live in states.items()}
        stored = await asyncio.to_thread(
            read_stored,
            self._deployment.database,
            {entity_id: {w: o.stored for w, o in own.items()} for entity_id, own in said.items()},
            {entity_id: live.catalogue for entity_id, live in states.items()},
        )
        other: dict[str, list[StoredWindow]] = {}
        for window in stored:
            live, outcome = states[window.entity_id], said[window.entity_id][window.window]
            if live.outcomes.get(window.window) is not outcome:
                # It was computed again meanwhile.
                continue
            if outcome.scores.differing(window.scores, live.catalogue):
                other.setdefault(window.entity_id, []).append(window)
            else:
                outcome.stored = window.version
                self._counts.verified += 1
        found: list[Difference] = []
        for slot in slots:
            if slot.entity_id in other and slot.live is states[slot.entity_id]:
                found += await self._resolve(slot, states[slot.entity_id], other[slot.entity_id])
        return found

    async def _resolve(
        self, slot: Slot, live: EntityState, stored: list[StoredWindow]
    ) -> list[Difference]:
        """Take over what is stored, having found out whether it should have been said."""
        pairs = [(live.outcomes[w.window], w) for w in stored if w.window in live.outcomes]
        until = stored[-1].window
        made = [outcome for outcome in live.outcomes.values() if outcome.window <= until]
        rewritten = any(
            said.readings is None and not np.array_equal(said.values, window.values, equal_nan=True)
            for said, window in pairs
        )
        database = self._deployment.database
        accounted_for = (
            rewritten
            or await asyncio.to_thread(outdated, database, slot.entity_id, made, live.catalogue)
            or await asyncio.to_thread(changed_since, database, slot.entity_id, live.last_change)
        )
        found: list[Difference] = []
        taken_over = []
        threshold = self._deployment.settings.explanation_threshold
        for said, window in pairs:
            if live.outcomes.get(window.window) is not said:
                continue
            if not accounted_for:
                found += differences(slot.entity_id, said, window.scores, live.catalogue)
            taken_over.append(said.as_stored(window, threshold))
            live.outcomes[window.window] = taken_over[-1]
        if accounted_for:
            self._counts.outdated += len(taken_over)
            logger.info(
                "entity %r: %d windows are stored by other readings, or by other models",
                slot.entity_id,
                len(taken_over),
            )
        else:
            self._counts.differences += len(taken_over)
        for difference in found:
            logger.error("the live path differs from what is stored: %s", difference)
        self.recent.extend(found)
        self._tell(live, taken_over)
        self._restore(slot)
        return found


def _comparable(live: EntityState, everything: bool) -> dict[int, Outcome]:  # noqa: FBT001 - as in verify
    before = math.inf if live.touched is None else live.touched
    return {
        outcome.window: outcome
        for outcome in live.outcomes.values()
        if (everything or outcome.stored is None) and outcome.window < before
    }
