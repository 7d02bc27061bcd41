"""Messages of a training run, and their delivery to trackers."""
