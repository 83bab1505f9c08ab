"""Migrations: plain SQL files, applied in order, each in a transaction of its own.

A file is ``NNNN_name.up.sql`` with its reverse ``NNNN_name.down.sql``, numbered from 1 with no gap.
Penstock's own come first; a package of events may bring its own in a folder ``migrations`` beside
its module, numbered by itself. What is applied is recorded in ``public.schema_migrations``; one
process migrates at a time, the others wait and then find nothing to do.

A file whose first line is ``-- penstock: no-transaction`` runs outside a transaction, as CREATE
INDEX CONCURRENTLY must. It holds one statement that may run twice: if the connection breaks before
it is recorded, it will.
"""

from penstock.worker.migrate.files import PACKAGE, Migration, find, new
from penstock.worker.migrate.ledger import Status
from penstock.worker.migrate.runner import Step, check, down, status, up

__all__ = ["PACKAGE", "Migration", "Status", "Step", "check", "down", "find", "new", "status", "up"]
