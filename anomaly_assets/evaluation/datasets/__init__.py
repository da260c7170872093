"""Labelled data sets: the published ones by name, and a user's own by folder."""

from __future__ import annotations

from anomaly_assets.evaluation.datasets.choice import NAMES, load
from anomaly_assets.evaluation.datasets.series import LabelKind, LabelledSeries

__all__ = ["NAMES", "LabelKind", "LabelledSeries", "load"]
