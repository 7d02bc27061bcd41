"""The same scan found by content: in another file format, in another orientation, or as a block of it."""
