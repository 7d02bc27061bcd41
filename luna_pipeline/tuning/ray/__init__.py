"""Studies on Ray Tune: everything that imports Ray."""
