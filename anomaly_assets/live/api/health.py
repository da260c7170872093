"""Whether it lives, whether it can take readings, and its figures."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Response
from prometheus_client import generate_latest

from anomaly_assets.live.api.context import Context, ContextOf
from anomaly_assets.live.api.models import HealthModel
from anomaly_assets.live.api.security import WatcherOf
from anomaly_assets.live.sources.pump import Pump

router = APIRouter(tags=["operation"])

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/v1/health/live")
async def live() -> HealthModel:
    """Answer as long as the process can."""
    return HealthModel(status="alive")


_NOT_READY: Final[dict[int | str, dict[str, Any]]] = {
    503: {"model": HealthModel, "description": "readings cannot be taken now"}
}


@router.get("/v1/health", responses=_NOT_READY)
@router.get("/v1/health/ready", responses=_NOT_READY)
async def ready(context: ContextOf, response: Response) -> HealthModel:
    """Say whether readings can be taken: the writer runs, and the database answers.

    Sources that are away are named, and make nothing unready: requests are taken all the same.
    """
    reachable = await context.probe.reachable()
    running = context.intake.writer.running
    if not (reachable and running):
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    ownership = context.intake.ownership
    return HealthModel(
        status="ready" if reachable and running else "not ready",
        database="reachable" if reachable else "away",
        writer="running" if running else "stopped",
        pipeline=_pipeline(context),
        sources={
            pump.source.name: "connected" if pump.source.connected else _away(context, pump)
            for pump in context.pumps
        },
        shards=None if ownership is None else ownership.shards,
        role=None if ownership is None else ownership.role,
        roles={} if ownership is None else ownership.roles,
        handed_over=None if ownership is None else context.intake.writer.figures.handed_over,
    )


def _away(context: Context, pump: Pump) -> str:
    return "standby" if pump.source.name in context.standing_by() else "away"


def _pipeline(context: Context) -> str:
    if context.intake.pipeline is None:
        return "off"
    if context.intake.ownership is not None and not context.intake.ownership.owned:
        return "standby"
    return "running" if context.scoring.is_set() else "starting"


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {_METRICS_TYPE: {}}, "description": "Prometheus's text format"}},
)
async def metrics(context: ContextOf, watcher: WatcherOf) -> Response:
    """Return the figures for Prometheus.

    They name entities and streams only to a token that may read everybody's results.
    """
    registries = [context.metrics.registry]
    if watcher is not None:
        registries.append(context.metrics.named)
    parts = [await asyncio.to_thread(generate_latest, registry) for registry in registries]
    return Response(b"".join(parts), media_type=_METRICS_TYPE)
