"""Where committed facts go: PostgreSQL, and the key-value bucket that mirrors part of it."""
