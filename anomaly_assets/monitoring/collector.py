"""The metrics of a deployment, for whoever asks: Prometheus, or a file for the node exporter."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from anomaly_assets.monitoring.families import gauge, single
from anomaly_assets.monitoring.looks import Looks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from anomaly_assets.pipeline.deployment import Deployment


class DeploymentCollector(Collector):
    """What the databases and the machine say, without any name, or of those that are named.

    Parameters
    ----------
    deployment
        Whose.
    looks
        Its looks into the databases.
    part
        ``totals``: no name of an entity; ``names``: only what names one.
    """

    def __init__(
        self, deployment: Deployment, looks: Looks, part: Literal["totals", "names"]
    ) -> None:
        self._deployment = deployment
        self._looks = looks
        self._part = part

    def describe(self) -> list[Metric]:
        """Ask nothing of the database when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        if self._part == "names":
            yield from self._looks.named()
            return
        about = (version("anomaly-assets"), platform.python_version())
        yield gauge("build_info", [(about, 1.0)])
        yield from self._of_disk()
        yield from self._looks.totals()

    def _of_disk(self) -> Iterator[Metric]:
        try:
            disk = shutil.disk_usage(self._deployment.settings.home)
        except OSError:
            return
        yield single("disk_free_bytes", disk.free)
        yield single("disk_size_bytes", disk.total)


def registries(deployment: Deployment) -> tuple[CollectorRegistry, CollectorRegistry]:
    """Return where a deployment's metrics are: those that name nobody, and those that name."""
    looks = Looks(deployment.settings, deployment.database)
    totals, names = CollectorRegistry(), CollectorRegistry()
    totals.register(DeploymentCollector(deployment, looks, "totals"))
    names.register(DeploymentCollector(deployment, looks, "names"))
    return totals, names


def add_process(registry: CollectorRegistry) -> None:
    """Add memory, processor time and open files of this process."""
    ProcessCollector(namespace="anomaly_assets", registry=registry)
