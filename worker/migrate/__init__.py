"""Migrations: plain SQL files, applied in order, each in its own transaction.

A file is ``NNNN_name.up.sql`` with its reverse ``NNNN_name.down.sql``, numbered from 1 without
gaps. Penstock's own come first. An event package may bring its own, with their own numbers, in a
folder ``migrations`` beside its module. What is applied is recorded in
``public.schema_migrations``. One process migrates at a time; the others wait, and then find nothing
to do.

A file whose first line is ``-- penstock: no-transaction`` runs outside a transaction, as CREATE
INDEX CONCURRENTLY requires. It must hold one statement that may run twice, because it runs again if
the connection breaks before it is recorded.
"""

from penstock.worker.migrate.files import PACKAGE, Migration, find, new
from penstock.worker.migrate.ledger import Status
from penstock.worker.migrate.runner import Step, check, down, require, status, up

__all__ = [
    "PACKAGE",
    "Migration",
    "Status",
    "Step",
    "check",
    "down",
    "find",
    "new",
    "require",
    "status",
    "up",
]
