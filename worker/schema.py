"""What a command needs of the database before it looks at it."""

from penstock.worker import migrate
from penstock.worker.errors import MigrationError
from penstock.worker.settings.keys import Settings


async def check_schema(settings: Settings, command: str) -> None:
    """Raise MigrationError unless every migration is applied as it stands; SinkUnavailable."""
    if pending := await migrate.check(settings.postgres_dsn, settings.event_packages):
        lacking = "; ".join(map(str, pending))
        raise MigrationError(f"{lacking}; run `penstock migrate up` before `penstock {command}`")
