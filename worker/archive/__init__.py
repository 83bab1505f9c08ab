"""Partitions as files: Parquet, with a manifest that says what a file holds and how to check it."""
