"""The science: numpy, pandas, SimpleITK and torch; no orchestrator, no tracker, no web server."""
