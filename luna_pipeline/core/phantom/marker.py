"""The files by which a phantom is known, apart from what makes it: to look for one needs no library."""

MARKER, UNFINISHED_MARKER = "phantom.json", "phantom.unfinished"
