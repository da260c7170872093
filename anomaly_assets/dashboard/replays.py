"""Replays that a page has begun: carried out beside the pages, one at a time.

A replay may take minutes, and nobody waits for an answer that long. What it begins with is one
transaction, and whatever becomes of this process, the hourly job or the sensor of late readings
comes to the same end.
"""

from __future__ import annotations

import logging
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from anomaly_assets.pipeline import models
from anomaly_assets.pipeline.deployment import Deployment

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database

logger = logging.getLogger(__name__)


class Replays:
    """Completes what was begun, in a thread that ends when there is nothing left to do."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Settings, Database, str, int]] = SimpleQueue()
        self._starting = threading.Lock()
        self._running = False

    def complete(self, deployment: Deployment, entity_id: str, action_id: int) -> None:
        """Have an action completed soon."""
        self._waiting.put((deployment.settings, deployment.database, entity_id, action_id))
        with self._starting:
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="replays", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                settings, database, entity_id, action_id = self._waiting.get_nowait()
            except Empty:
                with self._starting:
                    # Something may have come since.
                    if self._waiting.empty():
                        self._running = False
                        return
                continue
            try:
                # Its own: the failures of a run belong to that run.
                own = Deployment(settings, database, run_id="dashboard")
                report = models.complete(own, own.reread(entity_id), action_id)
                if report.failed:
                    logger.error("entity %r, action %d: %s", entity_id, action_id, report.failed)
            except Exception:
                logger.exception(
                    "entity %r, action %d: left to the hourly job", entity_id, action_id
                )
