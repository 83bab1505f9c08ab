"""The worker: from the message bus into PostgreSQL and the KV bucket, effectively once."""
