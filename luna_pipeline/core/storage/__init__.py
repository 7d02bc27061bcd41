"""Atomic files on a disk or in S3, and the schemas of the tables."""
