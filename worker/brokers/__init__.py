"""Brokers by name: what a worker and a Publisher need from each, and where its room is."""
