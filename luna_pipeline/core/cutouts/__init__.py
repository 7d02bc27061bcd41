"""Cutting boxes around candidates and keeping them, one file a series."""
