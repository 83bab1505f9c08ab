"""The worker: from the message bus into PostgreSQL and the KV bucket, once in effect."""

__version__ = "0.1.0"
