"""What was found, and what is watched; a token of one entity sees that entity only."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.api.context import ContextOf
from anomaly_assets.live.api.lookups import explanation_of, health_of, known_entities
from anomaly_assets.live.api.models import (
    REFUSALS,
    AnomaliesModel,
    AnomalyModel,
    EntityModel,
    ExplanationModel,
    Problem,
    StreamModel,
    StreamsModel,
)
from anomaly_assets.live.api.security import ReaderOf, visible_entity
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.storage.database import Connection
from anomaly_assets.storage.entities import EntityRow
from anomaly_assets.storage.queries import top_anomalies
from anomaly_assets.streams.catalogue import Stream

router = APIRouter(tags=["results"], responses=REFUSALS)
_DEFAULT_SPAN: Final = timedelta(days=7)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)

EntityId = Annotated[
    str | None,
    Query(max_length=200, description="one entity; default: all that the token is good for"),
]
After = Annotated[str, Query(max_length=200, description="entities behind this one, by identifier")]
Score = Annotated[float, Query(ge=0.0, le=1.0, allow_inf_nan=False)]


@router.get("/v1/anomalies")
def anomalies(  # noqa: PLR0913, PLR0917 - the filters a person may set
    context: ContextOf,
    principal: ReaderOf,
    entity_id: EntityId = None,
    since: Annotated[datetime | None, Query(description="default: a week before `until`")] = None,
    until: Annotated[datetime | None, Query(description="default: now")] = None,
    min_score: Score = 0.7,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> AnomaliesModel:
    """Return the episodes with the highest scores, the highest first."""
    whose = visible_entity(principal, entity_id)
    end = _moment(until) or datetime.now(tz=UTC)
    start = _moment(since) or max(_EARLIEST, end - _DEFAULT_SPAN)
    with context.deployment.database.connect() as connection:
        found = top_anomalies(
            connection, entity_id=whose, since=start, until=end, min_score=min_score, limit=limit
        )
    return AnomaliesModel(anomalies=[AnomalyModel(**asdict(one)) for one in found])


@router.get(
    "/v1/explanations/{anomaly_id}",
    responses={404: {"model": Problem, "description": "there is none, or not for this token"}},
)
def explanation(context: ContextOf, principal: ReaderOf, anomaly_id: UUID) -> ExplanationModel:
    """Return why an anomaly happened."""
    with context.deployment.database.connect() as connection:
        found = explanation_of(connection, anomaly_id)
    # Of another entity's not even its existence is told.
    if found is None or not principal.allows(found[0], write=False):
        raise HTTPException(404, "no explanation of that identifier")
    return ExplanationModel(entity_id=found[0], explanation=found[1])


@router.get("/v1/streams")
def streams(
    context: ContextOf,
    principal: ReaderOf,
    entity_id: EntityId = None,
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=100, description="entities")] = 20,
) -> StreamsModel:
    """Return what is watched, and how the streams are doing."""
    whose = visible_entity(principal, entity_id)
    if "\x00" in after:
        raise HTTPException(422, "after: give an entity's identifier")
    with context.deployment.database.connect() as connection:
        rows = known_entities(connection, entity_id=whose, after=after, limit=limit + 1)
        entities = [_entity(context.deployment, connection, row) for row in rows[:limit]]
    more = entities[-1].entity_id if len(rows) > limit else None
    return StreamsModel(entities=entities, next=more)


def _entity(deployment: Deployment, connection: Connection, row: EntityRow) -> EntityModel:
    try:
        watched = deployment.catalogue(row.catalogue).streams
    except AnomalyAssetsError:
        watched = ()
    health = health_of(connection, row.entity_id)
    return EntityModel(
        entity_id=row.entity_id,
        last_reading_at=row.last_reading_at,
        processed_until=row.aggregated_until,
        quarantined=row.quarantined_reason is not None or not watched,
        streams=[_stream(stream, health.get(stream.id, {})) for stream in watched],
    )


def _stream(stream: Stream, health: dict[str, Any]) -> StreamModel:
    return StreamModel(
        stream_id=stream.id,
        group=stream.group,
        type=stream.type,
        unit=stream.unit,
        description=stream.description,
        valid_range=stream.valid_range,
        availability=health.get("availability_score"),
        consecutive_missing=health.get("consecutive_missing"),
        health=health.get("health_score"),
        as_of=health.get("timestamp"),
    )


def _moment(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    # Beyond these a shift to UTC leaves the calendar.
    return min(max(aware, _EARLIEST), _LATEST)
