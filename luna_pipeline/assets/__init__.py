"""The assets, one file per stage, in order."""
