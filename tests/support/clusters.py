"""PostgreSQL servers that are not the usual one."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from penstock.worker.embedded import EmbeddedPostgres, ServerFailed

LOCALE = "de_DE.UTF-8"


class GermanPostgres(EmbeddedPostgres):
    """Debian's PostgreSQL, which has translations, and speaks German.

    Whoever starts it sets LOCPATH to the folder of `german_locale`.
    """

    def _installed(self) -> Path:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
        words = Path("/usr/share/locale/de/LC_MESSAGES")
        for program in reversed(found):
            if (words / f"postgres-{_version(program)}.mo").exists():
                return program.parent
        raise ServerFailed(f"no PostgreSQL under /usr/lib/postgresql has its words in {words}")

    def _make_data(self) -> None:
        self._initdb("--locale=C", f"--lc-messages={LOCALE}")


class StandbyPostgres(EmbeddedPostgres):
    """A copy of ``primary`` that follows it, under the name ``name``."""

    def __init__(self, primary: EmbeddedPostgres, name: str, settings: Mapping[str, str]) -> None:
        super().__init__(settings=settings)
        self._primary = primary
        self._name = name

    def _make_data(self) -> None:
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres"
        source += f" application_name={self._name}"
        self._do(
            "pg_basebackup",
            "-D",
            self.folder / "data",
            "-d",
            source,
            "-R",
            "--no-sync",
            "-c",
            "fast",
        )


def german_locale(folder: Path) -> Path:
    """Build the locale in ``folder``, which every user may then read. Raises ServerFailed."""
    folder.chmod(0o755)
    program = shutil.which("localedef")
    if program is None:
        raise ServerFailed("there is no localedef")
    command = [program, "--no-archive", "-i", "de_DE", "-f", "UTF-8", str(folder / LOCALE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not any(folder.iterdir()):
        raise ServerFailed(f"localedef ended with {done.returncode}: {done.stderr.strip()}")
    return folder


def _version(program: Path) -> int:
    return int(program.parents[1].name)


def any_of(*servers: EmbeddedPostgres) -> str:
    """The address of whichever of the servers takes writes."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"


async def ask(server: EmbeddedPostgres, *statements: str) -> Any:
    """The answer of a server to the last of the statements, outside any pool."""
    connection = await asyncpg.connect(server.dsn)
    try:
        return [await connection.fetchval(statement) for statement in statements][-1]
    finally:
        await connection.close()
