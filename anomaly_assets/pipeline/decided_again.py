"""Stored windows that are decided about once more, since other feedback holds for them now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.advance import active_blocks
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.in_force import FeedbackHistory, decide_windows
from anomaly_assets.storage import results
from anomaly_assets.storage.entities import hold_entity
from anomaly_assets.storage.feedback import list_decisions
from anomaly_assets.storage.queries import scored_until
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment, Entity

    Connection = psycopg.Connection[Any]


def decide_again(deployment: Deployment, entity: Entity, start: int) -> int:
    """Decide about an entity's stored windows from `start` on; return how many.

    No score changes. Episodes whose windows call for an explanation now, or do no more, are
    explained anew.

    Raises
    ------
    AnomalyAssetsError
        If the explanations could not be made; running it again makes them.
    """
    changed: set[int] = set()
    count = 0
    with deployment.database.connect() as connection:
        until = scored_until(connection, entity.entity_id)
        if until is None or until <= start:
            return 0
        for block in active_blocks(connection, entity, start, until):
            with connection.transaction():
                hold_entity(connection, entity.entity_id)
                history = FeedbackHistory.read(connection, entity, deployment.key, hold=True)
                before = _codes(connection, entity, block)
                final = results.read_ensemble(connection, entity.entity_id, block)
                decide_windows(connection, entity, block, final, history, deployment.settings)
                after = _codes(connection, entity, block)
            changed |= {window for window, _ in before ^ after}
            count += len(block)
    if changed:
        windows = WindowRange(min(changed), max(changed) + WINDOW_SECONDS)
        for _ in explain_windows(deployment, [entity], windows):
            pass
        if entity.entity_id in deployment.failures:
            raise AnomalyAssetsError(deployment.failures[entity.entity_id])
    return count


def _codes(connection: Connection, entity: Entity, block: WindowRange) -> set[tuple[int, int]]:
    return {
        (int(one.timestamp.timestamp()), one.trigger_code)
        for one in list_decisions(connection, entity.entity_id, block)
    }
