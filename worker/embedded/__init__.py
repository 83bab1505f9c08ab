"""NATS and PostgreSQL from wheels, as child processes, for the demo and the tests.

Both listen only on the loopback interface, and accept every connection without a password. `pause`,
`kill` and `restart` are for tests of failures.
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
