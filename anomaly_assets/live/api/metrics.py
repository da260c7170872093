"""What is counted of the requests, for Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from anomaly_assets.monitoring.collector import DeploymentCollector, add_process
from anomaly_assets.monitoring.families import FAMILIES, PREFIX
from anomaly_assets.monitoring.looks import Looks

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from anomaly_assets.pipeline.deployment import Deployment

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        #: What names entities and streams; for those with a token alone.
        self.named = CollectorRegistry()
        self._requests = Counter(*_described("requests"), registry=self.registry)
        self._seconds = Histogram(
            *_described("request_seconds"), buckets=_SECONDS, registry=self.registry
        )
        self.in_progress = Gauge(*_described("requests_in_progress"), registry=self.registry)

    def watch(self, deployment: Deployment) -> None:
        """Add what the databases and the machine say of a deployment, and this process."""
        looks = Looks(deployment.settings, deployment.database)
        self.registry.register(DeploymentCollector(deployment, looks, "totals"))
        self.named.register(DeploymentCollector(deployment, looks, "names"))
        add_process(self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        # A method is whatever a sender writes, and every new one would be kept for ever.
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


def _described(name: str) -> tuple[str, str, tuple[str, ...]]:
    family = FAMILIES[name]
    return PREFIX + name, family.meaning, family.labels


class CountRequests:
    """Middleware that counts requests by their route.

    Parameters
    ----------
    app
        The application.
    metrics
        Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.in_progress.dec()
            # The route's pattern, not the path: that is whatever a sender writes.
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - started
            self._metrics.observe(scope["method"], route, status, seconds)
