"""Benchmarks of the project against the tutorial's procedure and the limits of the machine."""
