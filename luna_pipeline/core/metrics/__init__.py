"""Binary classification metrics, thresholds and calibration."""
