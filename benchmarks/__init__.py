"""Benchmarks: Penstock compared with PostgreSQL's limit and with other ways, in one run."""
