"""Readers of the CT file formats, one module a format."""
