"""Anomaly detection over many heterogeneous streams that go missing, as Dagster assets."""

from __future__ import annotations

from anomaly_assets.detection.robust import RobustAnomalySystem, WindowResult
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue

__all__ = ["Catalogue", "RobustAnomalySystem", "WindowResult", "load_catalogue"]
