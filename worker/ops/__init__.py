"""What the operator sees of a running worker: HTTP, logs, health."""
