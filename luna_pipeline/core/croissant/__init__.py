"""Croissant: the description of candidate table, folds and cutouts for other people's tools."""
