"""Alerts: each failed run is reported once on every channel that is configured."""
