"""Network architectures, losses and weights."""
