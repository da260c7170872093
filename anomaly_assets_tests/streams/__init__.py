"""Tests of :mod:`anomaly_assets.streams`."""
