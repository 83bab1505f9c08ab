"""What the demo runs on: its own servers, a database, and a worker process."""

import shlex
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.demo.figures import Ledger
from penstock.worker.demo.process import WorkerProcess
from penstock.worker.demo.view import Kept
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres, postgres_programs
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.nats.bus import bus
from penstock.worker.postgres.pool import database
from penstock.worker.settings.keys import Settings, load

_RABBIT = "rabbitmq"
BROKERS = {"nats": ["nats"], _RABBIT: [_RABBIT], "both": ["nats", _RABBIT]}
"""What can be asked for, and the brokers that carry events then."""


class Stage(msgspec.Struct, frozen=True):
    """Everything that is running. ``rabbit`` is None unless events go over RabbitMQ."""

    nats: EmbeddedNats
    rabbit: EmbeddedRabbit | None
    postgres: EmbeddedPostgres
    worker: WorkerProcess
    settings: Settings
    ledger: Ledger
    bus: Any

    @property
    def addresses(self) -> list[str]:
        """The addresses of the brokers that carry events."""
        urls = {"nats": self.nats.url, _RABBIT: self.rabbit.url if self.rabbit else ""}
        return [urls[broker] for broker in self.settings.brokers]

    def kept(self, queries: Iterable[str]) -> Kept:
        """What a person needs to use what keeps running, and to stop it."""
        places = {"NATS": self.nats.url, "PostgreSQL": self.settings.postgres_dsn}
        if self.rabbit is not None:
            places["RabbitMQ"] = self.rabbit.url
        places |= {"worker": f"{self.worker.address}/metrics", "its log": str(self.worker.log)}
        psql = f"{postgres_programs() / 'psql'} {self.settings.postgres_dsn}"
        commands = [f"{psql} -c {shlex.quote(' '.join(query.split()))}" for query in queries]
        return Kept(places, commands, self._stop_command)

    @property
    def _stop_command(self) -> str:
        """A shell command that ends the worker, then the servers, and removes their files.

        On a busy machine they may still be writing when the first attempt removes them.
        """
        servers = f"kill {self.nats.pid}; kill -INT {self.postgres.pid}; sleep 1"
        folders = f"{self.worker.folder} {self.nats.folder} {self.postgres.folder}"
        if self.rabbit is not None:  # an orderly stop takes long, and nobody needs its data
            servers = f"kill -KILL {self.rabbit.pid}; {servers}"
            folders = f"{folders} {self.rabbit.folder}"
        remove = f"rm -rf {folders}"
        return f"kill {self.worker.pid}; sleep 1; {servers}; {remove} || {{ sleep 1; {remove}; }}"

    async def settled(self) -> int:
        """Messages that the worker has settled: counted in PostgreSQL where they have offsets, and
        by the worker itself where they come from RabbitMQ, whose queues have none.
        """
        numbered = await self.ledger.numbered()
        if self.rabbit is None:
            return numbered
        counts = (await self.worker.metrics()).by("penstock_received_total", "source")
        alone = len(self.settings.brokers) == 1
        return numbered + sum(n for name, n in counts.items() if alone or name.startswith(_RABBIT))


@asynccontextmanager
async def open_stage(brokers: Sequence[str], *, keep: bool) -> AsyncIterator[Stage]:
    """Servers, database, worker, and connections for watching them; ended in reverse order.

    Raises ServerFailed if a server is not installed or does not start.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        flags = {"brokers": ",".join(brokers), "migrate": "true"}
        rabbit = None
        if _RABBIT in brokers:  # first, because it may not be installed
            rabbit = await enter(EmbeddedRabbit(outlive=keep))
            flags["rabbitmq_url"] = rabbit.url
        nats = await enter(EmbeddedNats(outlive=keep))
        commit_times = {"track_commit_timestamp": "on"}
        postgres = await enter(EmbeddedPostgres(settings=commit_times, outlive=keep))
        dsn = await postgres.create_database("penstock")
        flags |= {"nats_url": nats.url, "postgres_dsn": dsn}
        settings = load(flags, environ={})
        worker = await enter(WorkerProcess(flags, outlive=keep))
        ledger = Ledger(await enter(database(settings)), Catalogue.load())
        watching = await enter(bus(settings))
        yield Stage(nats, rabbit, postgres, worker, settings, ledger, watching)
