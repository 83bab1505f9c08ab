"""Compares migration files with what the database has recorded. Pure: no I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from penstock.worker.errors import MigrationError
from penstock.worker.migrate.files import Migration

State = Literal["applied", "pending", "changed", "missing"]


class Applied(msgspec.Struct, frozen=True):
    """One row of ``public.schema_migrations``."""

    package: str
    version: int
    name: str
    checksum: str
    down_checksum: str
    installed_on: datetime
    installed_by: str
    execution_ms: int


Ledger = Mapping[tuple[str, int], Applied]
"""What is applied, by package and version."""


class Status(msgspec.Struct, frozen=True):
    """The status of one migration.

    ``pending``: not applied yet. ``changed``: its file has changed since it was applied.
    ``missing``: applied, but the file is gone. ``problem`` says what to do about the last two.
    """

    package: str
    version: int
    name: str
    state: State
    installed_on: datetime | None = None
    installed_by: str | None = None
    execution_ms: int | None = None
    problem: str | None = None

    def __str__(self) -> str:
        return self.problem or f"{self.package}: {self.version:04d}_{self.name} is {self.state}"


def compare(package: str, migrations: Sequence[Migration], ledger: Ledger) -> list[Status]:
    """The status of every migration of ``package``, in order."""
    files = {migration.version: migration for migration in migrations}
    versions = sorted({*files, *(version for name, version in ledger if name == package)})
    return [_status(package, v, files.get(v), ledger.get((package, v))) for v in versions]


def pending(package: str, migrations: Sequence[Migration], ledger: Ledger) -> list[Migration]:
    """The migrations still to apply. Raises MigrationError if files and ledger contradict."""
    lines = compare(package, migrations, ledger)
    for line in lines:
        if line.problem:
            raise MigrationError(line.problem)
    applied = [line.version for line in lines if line.state == "applied"]
    last = max(applied, default=0)
    for line in lines:
        if line.state == "pending" and line.version < last:
            raise MigrationError(
                f"{package}: {line.version:04d}_{line.name} is not applied, but {last:04d} is; "
                "give it a higher number"
            )
    return [migration for migration in migrations if migration.version > last]


def _status(package: str, version: int, file: Migration | None, row: Applied | None) -> Status:
    if row is None:
        return Status(package, version, file.name if file else "", "pending")
    state, problem = _judge(file, row)
    return Status(
        package,
        version,
        row.name,
        state,
        row.installed_on,
        row.installed_by,
        row.execution_ms,
        problem,
    )


def _judge(file: Migration | None, row: Applied) -> tuple[State, str | None]:
    if file is None:
        return "missing", (
            f"{row.package}: {row.version:04d}_{row.name} is applied, but its files are not here; "
            f"install the version that has them, or revert the migration with that version"
        )
    for script, before in ((file.up, row.checksum), (file.down, row.down_checksum)):
        if script.checksum != before:
            return "changed", (
                f"{row.package}: {script.name} has changed since it was applied: checksum {before} "
                f"then, {script.checksum} now; restore the file, and put the change into a new "
                f"migration"
            )
    return "applied", None
