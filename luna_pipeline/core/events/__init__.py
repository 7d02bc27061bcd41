"""Messages of a training run."""
