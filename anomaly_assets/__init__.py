"""Anomaly detection over many heterogeneous streams that go missing, as Dagster assets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anomaly_assets.detection.robust import RobustAnomalySystem, WindowResult
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.loading import load_catalogue

__all__ = ["Catalogue", "RobustAnomalySystem", "WindowResult", "load_catalogue"]

_HOMES: Final = {
    "Catalogue": "streams.catalogue",
    "RobustAnomalySystem": "detection.robust",
    "WindowResult": "detection.robust",
    "load_catalogue": "streams.loading",
}


def __getattr__(name: str) -> object:
    """Import what is asked for: the models take a second, and few commands need them."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
