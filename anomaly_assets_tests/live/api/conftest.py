"""A served deployment for each module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets_tests.live.api.serving import Served, serving
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    """Serve a fresh database, without a pipeline."""
    with serving(deployment_of(database, tmp_path)) as running:
        yield running
