"""The JetStream key-value bucket that mirrors rows of PostgreSQL."""
