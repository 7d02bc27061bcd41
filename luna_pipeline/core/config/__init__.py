"""Configuration values: range checks, registries of named parts, conversion to and from JSON."""
