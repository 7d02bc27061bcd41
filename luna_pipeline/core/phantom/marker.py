"""Marker files of a phantom; in a module without heavy imports, so that checking for one is fast."""

MARKER, UNFINISHED_MARKER = "phantom.json", "phantom.unfinished"
