"""The course of a model: what was learnt, and the recorded actions that put another state in place.

A state is a function of the stored windows and of the actions that stand. A replay that comes to
the window of an action takes the step again: it retrains by the recorded recipe from the readings
as they are now, or goes on with the very state that was restored.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.state.store import Learnt, SnapshotStore
from anomaly_assets.storage.model_actions import ActionKind, standing_bases
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.windows import WindowBlock, WindowRange, day_blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import psycopg

    from anomaly_assets.pipeline.advance import Tier
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.state.store import Restored
    from anomaly_assets.storage.model_actions import ModelAction

    Connection = psycopg.Connection[Any]

logger = logging.getLogger(__name__)


@dataclass
class Course:
    """The actions that lie ahead of a restored state.

    Parameters
    ----------
    tier, entity
        Whose states.
    store
        Where restored states are.
    connection
        A connection to read by.
    ahead
        Actions not yet taken, in the order they act.
    base_action
        The last one taken.
    learnt
        On which data the state was made.
    refused
        Restored states that could not be used, each with the reason.
    """

    tier: Tier
    entity: Entity
    store: SnapshotStore
    connection: Connection
    ahead: list[ModelAction]
    base_action: int | None
    learnt: Learnt
    refused: list[str] = field(default_factory=list)

    @classmethod
    def ahead_of(  # noqa: PLR0913 - whose states, where from, and what is left out
        cls,
        restored: Restored,
        tier: Tier,
        deployment: Deployment,
        connection: Connection,
        entity: Entity,
        *,
        without: Collection[int] = (),
    ) -> Course:
        """Return the course that follows a restored state, as if some actions were not."""
        store = SnapshotStore(tier.component, tier.build, deployment.key)
        standing = standing_bases(connection, entity.entity_id, tier.component)
        ahead = [
            one
            for one in standing
            if one.action_id not in without and _follows(one, restored.as_of, restored.base_action)
        ]
        return cls(tier, entity, store, connection, ahead, restored.base_action, restored.learnt)

    def cut(self, blocks: Iterable[WindowRange]) -> list[WindowRange]:
        """Cut blocks where an action takes place."""
        found = []
        for block in blocks:
            start = block.start
            for at in sorted({_window(one) for one in self.ahead}):
                if start < at < block.end:
                    found.append(WindowRange(start, at))
                    start = at
            found.append(WindowRange(start, block.end))
        return found

    def reach(self, detector: Any, moment: int) -> Any:  # noqa: ANN401 - each tier has its own
        """Take the actions up to a moment (epoch seconds); return the state from there on."""
        while self.ahead and _window(self.ahead[0]) <= moment:
            action = self.ahead.pop(0)
            detector = self._take(action, detector)
            self.base_action = action.action_id
        return detector

    def learn(self, detector: Any, block: WindowRange) -> tuple[Any, Any]:  # noqa: ANN401 - as above
        """Have a state learn stored windows; return inputs and results of the tier."""
        inputs = self.tier.read(self.connection, self.entity, block)
        results = self.tier.process(detector, inputs)
        self.learnt = self.learnt.plus(block.start, len(block), observed_values(inputs))
        return inputs, results

    def _take(self, action: ModelAction, detector: Any) -> Any:  # noqa: ANN401 - as above
        if action.kind == ActionKind.RETRAIN:
            recipe = action.recipe or {}
            span = WindowRange(int(recipe["since"]), _window(action))
            fresh, learnt = trained(self.tier, self.connection, self.entity, span)
            streams = recipe.get("streams")
            self.learnt = learnt if streams is None else self.learnt
            return merged(self.entity, detector, fresh, streams)
        try:
            restored = self.store.open(
                self.connection, self.entity.catalogue, action.version_after or 0
            )
        except SnapshotRefusedError as error:
            msg = f"{error}; going on without what action {action.action_id} restored"
            logger.warning(msg)
            self.refused.append(msg)
            return detector
        self.learnt = restored.learnt
        return restored.detector


def trained(
    tier: Tier, connection: Connection, entity: Entity, windows: WindowRange
) -> tuple[Any, Learnt]:
    """Return a fresh detector that has learnt the stored windows of a range, and no others."""
    detector, learnt = tier.build(entity.catalogue), Learnt()
    for block in active_blocks(connection, entity, windows.start, windows.end):
        inputs = tier.read(connection, entity, block)
        tier.process(detector, inputs)
        learnt = learnt.plus(block.start, len(block), observed_values(inputs))
    return detector, learnt


def observed_values(inputs: Any) -> int:  # noqa: ANN401 - as above
    """Return how many observed values the inputs of a tier hold."""
    block = inputs if isinstance(inputs, WindowBlock) else inputs[0]
    return int(block.available.sum())


def merged(entity: Entity, current: Any, fresh: Any, streams: Collection[str] | None) -> Any:  # noqa: ANN401 - as above
    """Return the state after a retraining: of some streams (tier 1 only), or as a whole (None)."""
    if not isinstance(current, IndividualDetector):
        return fresh
    index = entity.catalogue.index
    ids = entity.catalogue.stream_ids
    chosen = [index(one) for one in (ids if streams is None else streams) if one in ids]
    current.adopt(fresh, np.array(sorted(chosen), dtype=np.int64))
    return current


def active_blocks(
    connection: Connection, entity: Entity, first: int | None, end: int
) -> list[WindowRange]:
    """Return the stored windows of an entity from `first` on, cut at UTC midnights.

    Cutting at fixed times keeps checkpoints a day apart and the blocks of all tiers alike.
    """
    if first is None or first >= end:
        return []
    stored = stored_ranges(connection, entity.entity_id, WindowRange(first, end))
    return [block for windows in stored for block in day_blocks(windows)]


def _window(action: ModelAction) -> int:
    return 0 if action.as_of is None else int(action.as_of.timestamp())


def _follows(action: ModelAction, as_of: int | None, base_action: int | None) -> bool:
    """Whether an action has not been taken by a state as of a window."""
    if as_of is None or _window(action) > as_of:
        return True
    return _window(action) == as_of and action.action_id > (base_action or 0)
