"""Brokers by name: what a worker and a Publisher need of each, and where its room is."""
