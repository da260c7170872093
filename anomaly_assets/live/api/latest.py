"""``GET /v1/latest``: how each entity is doing now."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from anomaly_assets.live.api.context import Context, ContextOf
from anomaly_assets.live.api.lookups import known_entities, latest_scores
from anomaly_assets.live.api.models import REFUSALS, LatestModel, LatestScoreModel
from anomaly_assets.live.api.results import After, EntityId
from anomaly_assets.live.api.security import ReaderOf, visible_entity
from anomaly_assets.live.cache import LatestScore

router = APIRouter(tags=["results"], responses=REFUSALS)


@router.get("/v1/latest")
async def latest(
    context: ContextOf,
    principal: ReaderOf,
    entity_id: EntityId = None,
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="entities")] = 100,
) -> LatestModel:
    """Return the newest score of each entity, from memory where it is there.

    Asked in this order: the streaming pipeline, Redis, the tables.
    """
    whose = visible_entity(principal, entity_id)
    if "\x00" in after:
        raise HTTPException(422, "after: give an entity's identifier")
    names = await asyncio.to_thread(_entities, context, whose, after, limit + 1)
    shown = names[:limit]
    found = {name: one for name in shown if (one := context.intake.latest(name)) is not None}
    found |= await context.cache.get_many([name for name in shown if name not in found])
    rest = [name for name in shown if name not in found]
    if rest:
        found |= await asyncio.to_thread(_stored, context, rest)
    return LatestModel(
        entities=[LatestScoreModel.of(found[name]) for name in shown if name in found],
        next=shown[-1] if len(names) > limit else None,
    )


def _entities(context: Context, whose: str | None, after: str, limit: int) -> list[str]:
    with context.deployment.database.connect() as connection:
        rows = known_entities(connection, entity_id=whose, after=after, limit=limit)
    return [row.entity_id for row in rows]


def _stored(context: Context, names: list[str]) -> dict[str, LatestScore]:
    with context.deployment.database.connect() as connection:
        return latest_scores(connection, names)
