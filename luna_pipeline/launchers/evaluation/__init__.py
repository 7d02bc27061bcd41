"""Scoring, reports and promotion of trained classifiers."""
