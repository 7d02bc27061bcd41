"""The studies that run on Ray Tune."""
