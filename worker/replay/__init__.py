"""Reading again what a broker, a file or PostgreSQL itself has kept: which part, and how far."""
