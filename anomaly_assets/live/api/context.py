"""What the routes share, and how they get at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request

from anomaly_assets.live.alerts.service import AlertService
from anomaly_assets.live.api.figures import Figures
from anomaly_assets.live.api.metrics import Metrics
from anomaly_assets.live.api.probe import DatabaseProbe
from anomaly_assets.live.api.sharing import SharingFigures
from anomaly_assets.live.cache import ScoreCache
from anomaly_assets.live.intake import Intake
from anomaly_assets.live.limits import Budget, RateLimiter
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.live.subscriptions import EventLog
from anomaly_assets.live.telling import Telling
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.live.webhooks import WebhookSender
from anomaly_assets.pipeline.deployment import Deployment

#: Bodies of JSON documents that are held at once, in the largest a request may have.
_LARGEST_BODIES: Final = 4


@dataclass
class Context:
    """Everything the routes work with.

    Parameters
    ----------
    deployment
        Settings, database and entities.
    intake
        Where readings go.
    tokens
        Who may ask.
    events
        Results for those who listen.
    metrics
        What is counted.
    cache
        Latest scores, shared with other processes.
    pumps
        Where readings come from besides requests.
    scoring
        Set when the pipeline has restored every entity that reports.
    alerts, webhooks
        Whom results are told to; None where nothing is scored.
    standing_by
        Names the sources that another instance reads from.
    """

    deployment: Deployment
    intake: Intake
    tokens: TokenBook
    events: EventLog = field(default_factory=EventLog)
    metrics: Metrics = field(default_factory=Metrics)
    cache: ScoreCache = field(default_factory=lambda: ScoreCache(None))
    listeners: int = 0
    pumps: Sequence[Pump] = ()
    scoring: asyncio.Event = field(default_factory=asyncio.Event)
    alerts: AlertService | None = None
    webhooks: WebhookSender | None = None
    standing_by: Callable[[], Collection[str]] = tuple
    telling: Telling = field(init=False)
    memory: Budget = field(init=False)
    probe: DatabaseProbe = field(init=False)
    request_rate: RateLimiter = field(init=False)
    reading_rate: RateLimiter = field(init=False)

    def __post_init__(self) -> None:
        """Fill every sender's bucket."""
        self.telling = Telling(self.intake.pipeline, self.events)
        self.probe = DatabaseProbe(self.deployment.database)
        self.metrics.watch(self.deployment)
        self.metrics.registry.register(Figures(self))
        if self.intake.ownership is not None:
            sharing = SharingFigures(self.intake.ownership, self.intake.writer)
            self.metrics.registry.register(sharing)
        options = self.deployment.settings
        self.memory = Budget(_LARGEST_BODIES * options.live_max_body_bytes)
        self.request_rate, self.reading_rate = (
            RateLimiter(per_second=rate, burst=max(1.0, rate * options.live_burst_seconds))
            for rate in (options.live_requests_per_second, options.live_readings_per_second)
        )

    def start(self) -> bool:
        """Take readings and tell results from now on; returns whether that is new."""
        if self.intake.writer.running:
            return False
        self.intake.writer.start()
        self.telling.start()
        return True

    async def stop(self) -> None:
        """Store what waits, and end."""
        self.events.close()
        await self.intake.settled()
        await self.telling.stop()
        await self.intake.writer.stop()


async def context_of(request: Request) -> Context:
    """Return the application's context; asynchronous, or each request would visit a thread."""
    context: Context = request.app.state.context
    return context


ContextOf = Annotated[Context, Depends(context_of)]
