"""Diagnosis of unseen CTs, as command line and assets call it: input, models, outputs, detection scores."""
