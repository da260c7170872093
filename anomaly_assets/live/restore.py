"""An entity out of the database: newest verified snapshot, stored windows, then the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS
from anomaly_assets.detection.system import DetectionState
from anomaly_assets.errors import StateError
from anomaly_assets.live.entity_state import EntityState
from anomaly_assets.live.models import RunningEpisode
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.pipeline.advance import active_blocks
from anomaly_assets.pipeline.course import Course
from anomaly_assets.pipeline.deployment import Entity
from anomaly_assets.pipeline.episodes import running_episode
from anomaly_assets.pipeline.handover import Handover
from anomaly_assets.pipeline.in_force import FeedbackHistory, scores_before
from anomaly_assets.pipeline.tiers import CrossStreamTier, GapTier, IndividualTier, read_block
from anomaly_assets.state.store import SnapshotStore
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.model_actions import last_change
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.aggregation import lookback_windows
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange, day_blocks, window_of

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.live.options import PipelineOptions
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.pipeline.advance import Tier
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.entities import EntityRow

    Connection = psycopg.Connection[Any]

#: A quarantine with this at the beginning of its reason is the live path's own, to be tried again.
QUARANTINED_BY = "live: "


@dataclass(frozen=True)
class RestoredEntity:
    """An entity ready to go on.

    Parameters
    ----------
    live
        Its state; every window up to the allowed lateness before now is closed.
    unstored
        What was said of windows that are not stored yet, in order.
    refused
        Snapshots that failed verification on the way, each with the reason.
    released
        Whether a quarantine of the live path's own is to be lifted.
    created_at
        When the entity was made: tells it from another one of its name.
    """

    live: EntityState
    unstored: list[Outcome] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    released: bool = False
    created_at: datetime | None = None


def restore_entity(
    deployment: Deployment, entity_id: str, options: PipelineOptions, now: datetime
) -> RestoredEntity | None:
    """Bring an entity's state up to `now` from what the database holds.

    Stored windows are replayed from the newest snapshot that all tiers have, those not stored yet
    are computed from the journal. Late readings that no run has taken in yet set both back to
    their window.

    Returns
    -------
    RestoredEntity or None
        None where there is no such entity, or no reading of it.

    Raises
    ------
    AnomalyAssetsError
        If its catalogue cannot be loaded, or somebody has quarantined it.
    """
    with deployment.database.connect() as connection, connection.transaction():
        # Windows, marks and snapshots belong together: one view of them all.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = find_entity(connection, entity_id)
        if row is None or row.first_window is None:
            return None
        _refuse_quarantined(row)
        entity = _entity(deployment, row)
        first = int(row.first_window.timestamp())
        stored_until = _trusted_until(connection, entity_id, first)
        limit = min(stored_until, _rewritten_since_snapshots(connection, entity_id, stored_until))
        state, as_of, refused, courses = _common_state(deployment, connection, entity, limit)
        start = first if as_of is None else as_of
        live = EntityState(
            entity,
            deployment.settings,
            options,
            state,
            start,
            _last_report(connection, entity_id, start),
        )
        live.last_change = last_change(connection, entity_id)
        live.take_feedback(FeedbackHistory.read(connection, entity, deployment.key))
        _recall(connection, live, start, deployment)
        blocks = active_blocks(connection, entity, start, stored_until)
        for course in courses:
            blocks = course.cut(blocks)
        for block in blocks:
            _reach(state, courses, block.start)
            live.learn(read_block(connection, entity, block), ClosedBy.STORED)
        _reach(state, courses, stored_until)
        live.resume_at(stored_until, _last_report(connection, entity_id, stored_until))
        unstored = _from_journal(connection, live, now, deployment)
        _fill_buffer(connection, live, now, deployment)
    live.forget()
    refused += tuple(reason for course in courses for reason in course.refused)
    remembered = [outcome for outcome in unstored if outcome.window in live.outcomes]
    return RestoredEntity(
        live,
        remembered,
        refused,
        released=row.quarantined_reason is not None,
        created_at=row.created_at,
    )


def _refuse_quarantined(row: EntityRow) -> None:
    reason = row.quarantined_reason
    if reason is not None and not reason.startswith(QUARANTINED_BY):
        msg = f"entity {row.entity_id!r} is quarantined: {reason}; lift that to have it watched"
        raise StateError(msg)


def _entity(deployment: Deployment, row: EntityRow) -> Entity:
    catalogue = deployment.catalogue(row.catalogue)
    first = None if row.first_window is None else int(row.first_window.timestamp())
    # A handover of its own: nothing of a restore outlives it.
    return Entity(row.entity_id, catalogue, row.time_zone or catalogue.time_zone, first, Handover())


def _trusted_until(connection: Connection, entity_id: str, first: int) -> int:
    """Return the end of the stored windows that hold every reading they should."""
    row = connection.execute(
        "SELECT (SELECT extract(epoch FROM max(timestamp))::bigint FROM time_series_data "
        'WHERE entity_id = %(entity)s), (SELECT extract(epoch FROM min("window"))::bigint '
        "FROM late_windows WHERE entity_id = %(entity)s AND readings > 0)",
        {"entity": entity_id},
    ).fetchone()
    last, late = (None, None) if row is None else row
    until = first if last is None else int(last) + WINDOW_SECONDS
    return max(first, until if late is None else min(until, int(late)))


def _rewritten_since_snapshots(connection: Connection, entity_id: str, until: int) -> int:
    """Return the first window before the snapshots that was rewritten after them, or `until`.

    A run that takes late readings in rewrites the windows first and the states after; in between,
    or if it was killed there, the newest states descend from windows that are no more.
    """
    row = connection.execute(
        "SELECT extract(epoch FROM min(t.timestamp))::bigint FROM ("
        "SELECT DISTINCT ON (component) as_of, xmin AS written FROM model_snapshots "
        "WHERE entity_id = %(entity)s ORDER BY component, as_of DESC) AS s "
        "JOIN time_series_data AS t ON t.entity_id = %(entity)s "
        "AND t.timestamp >= s.as_of - interval '2 days' AND t.timestamp < s.as_of "
        "AND age(t.xmin) < age(s.written)",
        {"entity": entity_id},
    ).fetchone()
    return until if row is None or row[0] is None else int(row[0])


def _common_state(
    deployment: Deployment, connection: Connection, entity: Entity, limit: int
) -> tuple[DetectionState, int | None, tuple[str, ...], list[Course]]:
    """Return the tiers as of the newest time before `limit` at which all have a snapshot.

    With them the reasons why newer ones were refused, and the recorded actions that lie ahead.
    """
    tiers: tuple[Tier, ...] = (
        IndividualTier(),
        GapTier(),
        CrossStreamTier(deployment.settings.seed),
    )
    stores = [SnapshotStore(tier.component, tier.build, deployment.key) for tier in tiers]
    refused: dict[str, None] = {}
    while True:
        found = [s.restore(connection, entity.entity_id, entity.catalogue, limit) for s in stores]
        refused |= dict.fromkeys(reason for restored in found for reason in restored.refused)
        ages = {restored.as_of for restored in found}
        if len(ages) == 1:
            individual, gaps, cross_stream = (restored.detector for restored in found)
            state = DetectionState(individual, gaps, cross_stream)
            courses = [
                Course.ahead_of(restored, tier, deployment, connection, entity)
                for restored, tier in zip(found, tiers, strict=True)
            ]
            return state, found[0].as_of, tuple(refused), courses
        limit = min(0 if as_of is None else as_of for as_of in ages)


def _reach(state: DetectionState, courses: list[Course], moment: int) -> None:
    individual, gaps, cross_stream = courses
    state.individual = individual.reach(state.individual, moment)
    state.gaps = gaps.reach(state.gaps, moment)
    state.cross_stream = cross_stream.reach(state.cross_stream, moment)


def _last_report(connection: Connection, entity_id: str, before: int) -> int | None:
    moment = WindowRange(before, before).start_time
    last = journal.last_reading_before(connection, entity_id, moment)
    return None if last is None else int(window_of(last).timestamp())


def _recall(connection: Connection, live: EntityState, start: int, deployment: Deployment) -> None:
    before = WindowRange(start - HISTORY_WINDOWS * WINDOW_SECONDS, start)
    stored = stored_ranges(connection, live.entity.entity_id, before)
    block = None
    if stored and stored[-1].end == start:
        block = read_block(connection, live.entity, stored[-1])
    threshold = deployment.settings.explanation_threshold
    episode = running_episode(connection, live.entity, start, threshold)
    scores = scores_before(connection, live.entity, start)
    live.recall(block, None if episode is None else RunningEpisode(*episode), scores)


def _from_journal(
    connection: Connection, live: EntityState, now: datetime, deployment: Deployment
) -> list[Outcome]:
    until = int(window_of(now - deployment.settings.allowed_lateness).timestamp())
    if deployment.settings.window_end is not None:
        until = min(until, int(window_of(deployment.settings.window_end).timestamp()))
    if until <= live.closed_until:
        return []
    made: list[Outcome] = []
    entity = live.entity
    lookback = lookback_windows(entity.catalogue) * WINDOW_SECONDS
    for block in day_blocks(WindowRange(live.closed_until, until)):
        known = WindowRange(block.start - lookback, block.end)
        found = journal.read_readings(connection, entity.entity_id, known, entity.catalogue)
        made += live.compute(
            block, found.readings, found.rejected, ClosedBy.LATENESS, late=found.late
        )
    return made


def _fill_buffer(
    connection: Connection, live: EntityState, now: datetime, deployment: Deployment
) -> None:
    entity = live.entity
    lookback = lookback_windows(entity.catalogue) * WINDOW_SECONDS
    end = int(window_of(now + deployment.settings.future_tolerance).timestamp()) + WINDOW_SECONDS
    # An hour back at least, so that it is known who reports.
    start = min(live.closed_until - lookback, end - 3600 - 2 * WINDOW_SECONDS)
    known = WindowRange(start, max(start, end))
    found = journal.read_readings(connection, entity.entity_id, known, entity.catalogue)
    live.buffer.fill(found.readings, found.rejected)
