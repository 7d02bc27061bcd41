"""The training loop, its configuration, messages, services and checkpoints."""
