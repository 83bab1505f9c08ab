"""Benchmarks: Penstock beside the limit and beside the stock way, in one run."""
