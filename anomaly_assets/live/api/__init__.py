"""The web interface of the live path."""

from anomaly_assets.live.api.app import create_app

__all__ = ["create_app"]
