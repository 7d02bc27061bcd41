"""Quality of a data set: what a radiologist asks of its scans, with stated limits."""
