"""Alerts: what raises them, which are sent when, and how they are delivered."""
