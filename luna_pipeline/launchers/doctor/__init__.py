"""What is set up and what is missing on this machine, for ``luna doctor``."""
