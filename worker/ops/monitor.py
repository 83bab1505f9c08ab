"""Watching from inside: is every server there, does every source move, how far behind are we."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import structlog

from penstock.worker.errors import Cause, PenstockError
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.ports import Backlog
from penstock.worker.pipeline.source import Watched

log = structlog.get_logger()

_PROBE_SECONDS = 1.0
_LAG_SECONDS = 2.0


class Pingable(Protocol):
    """A server that can be asked whether it is there."""

    async def ping(self) -> None:
        """Raise Unavailable if it does not answer."""


class Read(NamedTuple):
    """A pipeline, what it reads, and its share of the worker's memory."""

    pipeline: Pipeline
    source: Watched
    share: Share


Late = Callable[[float], str | None]


class Monitor:
    """Keeps the answers that /readyz and /metrics give. `probes` keep them fresh.

    ``servers`` are asked one by one whether they are there, by the names of their checks. A source
    is stalled if something waits and nothing was settled for ``stalled_after`` seconds. ``late``
    says what is wrong if what was put off has not come to the bucket for that long.
    """

    def __init__(
        self,
        servers: Mapping[str, Pingable],
        watched: Sequence[Read],
        metrics: Metrics,
        *,
        stalled_after: float,
        late: Late,
    ) -> None:
        self._late = late
        self._servers = servers
        self._watched = watched
        self._metrics = metrics
        self._stalled_after = stalled_after
        self._trouble: dict[str, str | None] = dict.fromkeys(servers, "not asked yet")
        self._backlogs: dict[str, Backlog] = {}
        self._unknown: dict[str, PenstockError] = {}

    @property
    def checks(self) -> Mapping[str, Callable[[], str | None]]:
        """Name to a function that gives None, or a text saying what is wrong."""
        servers = {name: self._server_check(name) for name in self._servers}
        sources = {f"source {r.pipeline.name}": self._source_check(r) for r in self._watched}
        late = {"bucket later": partial(self._late, self._stalled_after)}
        return {**servers, **sources, **late}

    def _server_check(self, name: str) -> Callable[[], str | None]:
        return lambda: self._trouble[name]

    def _source_check(self, read: Read) -> Callable[[], str | None]:
        def check() -> str | None:
            if not read.source.healthy:
                return self._away(read.pipeline)
            if (trouble := read.pipeline.faults.trouble) is not None:
                return trouble
            waited = read.pipeline.progress.waited
            if waited <= self._stalled_after:
                return None
            return f"stalled: nothing settled for {waited:.0f} s though messages wait: " + (
                self._cause(read)
            )

        return check

    def _away(self, pipeline: Pipeline) -> str:
        error = self._unknown.get(pipeline.name)
        if error is not None and error.cause in (Cause.MISSING, Cause.RIGHT):
            return str(error)
        silent = f"{pipeline.source.transport} is away or silent"
        return silent if error is None else f"{silent}: {error}"

    def _cause(self, read: Read) -> str:
        """What holds a source up: the last error, or what stands in the way of the next batch."""
        pipeline, backlog = read.pipeline, self._backlogs.get(read.pipeline.name)
        if pipeline.progress.cause:
            return pipeline.progress.cause
        if pipeline.busy:
            return f"{pipeline.busy} batches are in work, and no error has come back yet"
        if read.share.refused:
            return f"memory_limit is reached, {read.share.used} bytes of it by this stream"
        if backlog is not None and backlog.held_up:
            return backlog.held_up
        return f"{pipeline.source.transport} has messages and delivers none, without an error"

    @property
    def probes(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What keeps the answers fresh, by name: each to be run until cancelled."""
        servers = {f"probe {name}": self._probe(name) for name in self._servers}
        return {**servers, **{f"lag {r.pipeline.name}": self._watch_lag(r) for r in self._watched}}

    async def _probe(self, name: str) -> None:
        while True:
            try:
                await self._servers[name].ping()
                if self._trouble[name] is not None:
                    log.info("server_there", server=name)
                self._trouble[name] = None
            except PenstockError as error:
                if self._trouble[name] is None:
                    log.warning("server_away", server=name, error=str(error))
                self._trouble[name] = str(error)
            self._metrics.server_healthy(name, healthy=self._trouble[name] is None)
            await asyncio.sleep(_PROBE_SECONDS)

    async def _watch_lag(self, read: Read) -> None:
        pipeline, source = read.pipeline, read.source
        name = pipeline.name
        while True:
            try:
                backlog = await source.backlog()
            except PenstockError as error:
                log.debug("lag_unknown", source=name, error=str(error))
                self._unknown[name] = error
                self._metrics.age(name)
            else:
                self._unknown.pop(name, None)
                self._seen(pipeline, backlog)
            self._metrics.source_healthy(name, healthy=source.healthy)
            self._metrics.in_flight(name, pipeline.busy)
            await asyncio.sleep(_LAG_SECONDS)

    def _seen(self, pipeline: Pipeline, backlog: Backlog) -> None:
        """Note whether something waits: in work, at the broker, or returned and not seen since."""
        self._backlogs[pipeline.name] = backlog
        self._metrics.lag(pipeline.name, backlog)
        self._metrics.broker_dead_letters(pipeline.source.transport, backlog.given_up)
        returned = pipeline.progress.returned and backlog.ack_pending > 0
        if pipeline.busy or backlog.pending > 0 or returned:
            pipeline.progress.waits()
        else:
            pipeline.progress.nothing_waits()


async def wait_until_idle(watched: Sequence[Read], seconds: float) -> None:
    """Return once nothing is pending anywhere and nothing came for ``seconds``.

    A source that is away is not idle.
    """
    while True:
        await asyncio.sleep(min(seconds, 0.2))
        now = time.monotonic()
        quiet = all(r.pipeline.busy == 0 and now - r.pipeline.active >= seconds for r in watched)
        if quiet and await _drained([read.source for read in watched]):
            return


async def _drained(sources: Sequence[Watched]) -> bool:
    try:
        backlogs = [await source.backlog() for source in sources]
    except PenstockError:
        return False
    healthy = all(source.healthy for source in sources)
    return healthy and all(b.pending == 0 and b.ack_pending == 0 for b in backlogs)
