"""Where messages come from: one adapter per broker, and beside it its fast data path."""
