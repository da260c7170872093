"""Where Dagster keeps the picture of a run's highest-scored episode."""

from datetime import timedelta

import dagster as dg
import pytest

from anomaly_assets.automation.sensors import complete_windows
from anomaly_assets_tests.automation.support import Live, recorded

EXPLANATIONS = dg.AssetKey("explanations")


@pytest.fixture(autouse=True)
def _everything_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_ASSETS_EXPLANATION_THRESHOLD", "0.05")


def test_picture_is_kept_once_a_run(live: Live) -> None:
    """A range of windows has one picture in all, and not a copy in each partition's event."""
    live.ingest(live.start, live.now - timedelta(minutes=15))
    request = live.evaluate(complete_windows)
    assert isinstance(request, dg.RunRequest)
    assert live.run(request)
    assert len(recorded(live, "explanations")) > 12
    (observed,) = live.instance.fetch_observations(EXPLANATIONS, limit=5).records
    assert observed.asset_observation is not None
    picture = observed.asset_observation.metadata["figure"]
    assert "data:image/png;base64," in str(picture.value)
    newest = live.instance.get_latest_materialization_event(EXPLANATIONS)
    assert newest is not None
    assert newest.asset_materialization is not None
    assert "figure" not in newest.asset_materialization.metadata
