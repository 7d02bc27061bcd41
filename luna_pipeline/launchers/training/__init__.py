"""Training runs: configuration in, checkpoint out."""
