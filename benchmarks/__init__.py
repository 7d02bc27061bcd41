"""How fast the project is, against the tutorial's way and what the machine allows: ``make bench-cutting``."""
