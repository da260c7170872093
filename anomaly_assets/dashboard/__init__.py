"""The pages that people look at, judge and decide on; made on the server, no framework beside."""

from anomaly_assets.dashboard.app import BASE, create_dashboard, mount

__all__ = ["BASE", "create_dashboard", "mount"]
