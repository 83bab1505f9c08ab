"""The brokers that messages come from: what each needs, and its source for a stream.

A broker is opened with everything it needs, so that whoever uses it need not know which it is.
"""

import difflib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, cast

import aio_pika
import asyncpg
from nats.aio.client import Client

from penstock.schemas.catalogue import Catalogue
from penstock.worker.connections import rabbit_options
from penstock.worker.difference import Difference
from penstock.worker.errors import SettingsError
from penstock.worker.nats import topology
from penstock.worker.nats.client_source import StockJetStreamSource
from penstock.worker.nats.source import JetStreamSource
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.source import WatchedSource
from penstock.worker.postgres.offsets import PostgresOffsets
from penstock.worker.rabbitmq import topology as rabbitmq_topology
from penstock.worker.rabbitmq.client_source import StockRabbitMqSource, StockRabbitMqStreamSource
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource
from penstock.worker.rabbitmq.topology import QueuePlan
from penstock.worker.settings.keys import Settings


class Broker(Protocol):
    """Where messages come from."""

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        """Make what is missing; say what was done or differs. Raises as `nats.topology`."""

    async def check(self) -> list[Difference]:
        """What differs; raises TopologyError if the worker cannot work with it."""

    def source(self, stream: str, share: Share) -> AbstractAsyncContextManager[WatchedSource]:
        """The source of one stream, not started yet, with its share of the memory."""


class NatsBroker:
    """Durable pull consumers on JetStream."""

    def __init__(self, settings: Settings, catalogue: Catalogue, nc: Client) -> None:
        self._settings = settings
        self._plans = stream_plans(settings, catalogue)
        self._nc = nc

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        options = consumer_options(self._settings)
        return await topology.provision(self._nc, self._plans, dry_run=dry_run, **options)

    async def check(self) -> list[Difference]:
        return await topology.check(self._nc, self._plans, **consumer_options(self._settings))

    def source(self, stream: str, share: Share) -> AbstractAsyncContextManager[WatchedSource]:
        settings = self._settings
        kind = JetStreamSource if settings.source_path == "fast" else StockJetStreamSource
        return kind(
            self._nc,
            stream,
            durable=settings.consumer,
            ack_wait=settings.ack_wait,
            heartbeat=settings.heartbeat,
            share=share,
            **batching(settings),
        )


class RabbitMqBroker:
    """Queues bound to the topic exchange of events."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        connection: aio_pika.RobustConnection,
        pool: asyncpg.Pool | None = None,
    ) -> None:
        self._settings = settings
        self._plans = queue_plans(settings, catalogue)
        self._connection = connection
        self._pool = pool

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        return await rabbitmq_topology.provision(self._connection, self._plans, dry_run=dry_run)

    async def check(self) -> list[Difference]:
        return await rabbitmq_topology.check(self._connection, self._plans)

    def source(self, stream: str, share: Share) -> AbstractAsyncContextManager[WatchedSource]:
        settings = self._settings
        options = rabbit_options(settings)
        common: dict[str, Any] = {
            **batching(settings),
            "in_flight": settings.in_flight,
            "share": share,
        }
        fast = settings.source_path == "fast"
        if settings.rabbitmq_queue_type != "stream":
            work = RabbitMqSource if fast else StockRabbitMqSource
            return work(self._connection, options, stream, **common)
        log = RabbitMqStreamSource if fast else StockRabbitMqStreamSource
        offsets = PostgresOffsets(
            cast("asyncpg.Pool", self._pool),
            transport=RabbitMqSource.transport,
            worker_id=settings.worker_id,
        )
        start = settings.rabbitmq_stream_from
        begin = datetime.fromisoformat(start) if isinstance(start, str) else start
        return log(self._connection, options, stream, offsets=offsets, start=begin, **common)


def batching(settings: Settings) -> Mapping[str, Any]:
    """How every source makes its batches."""
    return {
        "batch_size": settings.batch_size,
        "batch_bytes": settings.batch_bytes,
        "linger": settings.linger,
    }


def stream_names(settings: Settings, catalogue: Catalogue) -> tuple[str, ...]:
    """The streams to work on. Raises SettingsError for one that no event travels on."""
    for name in settings.streams:
        if name not in catalogue.streams:
            near = difflib.get_close_matches(name, catalogue.streams, n=1, cutoff=0)
            raise SettingsError(
                f"streams = {name!r}: the catalogue has {', '.join(catalogue.streams)}; "
                f"did you mean {near[0]}?"
            )
    return settings.streams or tuple(catalogue.streams)


def stream_plans(settings: Settings, catalogue: Catalogue) -> list[topology.StreamPlan]:
    """The streams that the settings and the catalogue ask for."""
    return [
        topology.StreamPlan(
            name=name,
            subjects=catalogue.streams[name],
            replicas=settings.stream_replicas,
            max_age=settings.stream_max_age,
            max_bytes=settings.stream_max_bytes,
        )
        for name in stream_names(settings, catalogue)
    ]


def consumer_options(settings: Settings) -> dict[str, Any]:
    """The settings of the durable consumers."""
    return {
        "durable": settings.consumer,
        "ack_wait": settings.ack_wait,
        "max_ack_pending": settings.max_ack_pending,
    }


async def ensure_bucket(
    nc: Client, settings: Settings, *, dry_run: bool = False
) -> list[Difference]:
    """Make the bucket. One replica alone persists asynchronously: PostgreSQL can refill it."""
    return await topology.ensure_bucket(
        nc,
        settings.kv_bucket,
        replicas=settings.stream_replicas,
        asynchronous=settings.stream_replicas == 1,
        dry_run=dry_run,
    )


def queue_plans(settings: Settings, catalogue: Catalogue) -> list[QueuePlan]:
    """The queues that the settings and the catalogue ask for."""
    return [
        QueuePlan(
            name=name,
            subjects=catalogue.streams[name],
            kind=settings.rabbitmq_queue_type,
            exchange=settings.rabbitmq_exchange,
            max_age=settings.stream_max_age,
            max_bytes=settings.stream_max_bytes,
        )
        for name in stream_names(settings, catalogue)
    ]
