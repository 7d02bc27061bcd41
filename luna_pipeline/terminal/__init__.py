"""Jobs on a terminal: their stages with progress, and the log in a file. Dagster is not imported."""
