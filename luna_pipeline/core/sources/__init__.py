"""Data sources: one file a source, all with the same catalogue and the same tables."""
