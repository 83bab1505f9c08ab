"""NATS and PostgreSQL from wheels, as children of this process, for the demo and the tests.

Both listen on the loopback only and trust whoever connects. `pause`, `kill` and `restart` are there
for tests of failure.
"""

from penstock.worker.embedded.nats import EmbeddedNats, nats_server
from penstock.worker.embedded.postgres import (
    EmbeddedPostgres,
    create_database,
    drop_database,
    postgres_programs,
)
from penstock.worker.embedded.server import EmbeddedServer, ServerFailed

__all__ = [
    "EmbeddedNats",
    "EmbeddedPostgres",
    "EmbeddedServer",
    "ServerFailed",
    "create_database",
    "drop_database",
    "nats_server",
    "postgres_programs",
]
