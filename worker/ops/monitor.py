"""Watching from inside: is every server there, does every source move, how far behind are we."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.ports import Backlog
from penstock.worker.pipeline.source import Watched

log = structlog.get_logger()

_PROBE_SECONDS = 1.0
_LAG_SECONDS = 5.0
_STALLED_SECONDS = 30.0
"""A source that has work and settles nothing for this long is stalled."""


class Pingable(Protocol):
    """A server that can be asked whether it is there."""

    async def ping(self) -> None:
        """Raise Unavailable if it does not answer."""


Read = tuple[Pipeline, Watched]
"""A pipeline and what it reads."""


class Monitor:
    """Keeps the answers that /readyz and /metrics give. `probes` keep them fresh."""

    def __init__(self, sink: Pingable, watched: Sequence[Read], metrics: Metrics) -> None:
        self._sink = sink
        self._watched = watched
        self._metrics = metrics
        self._sink_trouble: str | None = "not asked yet"
        self._backlogs: dict[str, Backlog] = {}

    @property
    def checks(self) -> Mapping[str, Callable[[], str | None]]:
        """Name to a function that gives None, or a text saying what is wrong."""
        sources = {f"source {p.name}": self._source_check(p, source) for p, source in self._watched}
        return {"postgres": lambda: self._sink_trouble, **sources}

    def _source_check(self, pipeline: Pipeline, source: Watched) -> Callable[[], str | None]:
        def check() -> str | None:
            if not source.healthy:
                return f"{pipeline.source.transport} is away or silent"
            if (trouble := pipeline.faults.trouble) is not None:
                return trouble
            quiet = time.monotonic() - pipeline.progressed
            backlog = self._backlogs.get(pipeline.name)
            waiting = pipeline.busy or (backlog is not None and backlog.pending > 0)
            if waiting and quiet > _STALLED_SECONDS:
                return f"stalled: nothing settled for {quiet:.0f} s though messages are waiting"
            return None

        return check

    @property
    def probes(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What keeps the answers fresh, by name: each to be run until cancelled."""
        lags = {f"lag-{p.name}": self._watch_lag(p, source) for p, source in self._watched}
        return {"probe-postgres": self._probe_sink(), **lags}

    async def _probe_sink(self) -> None:
        while True:
            try:
                await self._sink.ping()
                if self._sink_trouble is not None:
                    log.info("postgres_there")
                self._sink_trouble = None
            except PenstockError as error:
                if self._sink_trouble is None:
                    log.warning("postgres_away", error=str(error))
                self._sink_trouble = str(error)
            self._metrics.sink_healthy(healthy=self._sink_trouble is None)
            await asyncio.sleep(_PROBE_SECONDS)

    async def _watch_lag(self, pipeline: Pipeline, source: Watched) -> None:
        name = pipeline.name
        while True:
            try:
                backlog = await source.backlog()
                self._backlogs[name] = backlog
                self._metrics.lag(name, backlog)
                self._metrics.broker_dead_letters(pipeline.source.transport, backlog.given_up)
            except PenstockError as error:
                log.debug("lag_unknown", source=name, error=str(error))
            self._metrics.source_healthy(name, healthy=source.healthy)
            self._metrics.in_flight(name, pipeline.busy)
            await asyncio.sleep(_LAG_SECONDS)


async def wait_until_idle(watched: Sequence[Read], seconds: float) -> None:
    """Return once nothing is pending anywhere and nothing came for ``seconds``.

    A source that is away is not idle.
    """
    while True:
        await asyncio.sleep(min(seconds, 0.2))
        now = time.monotonic()
        quiet = all(p.busy == 0 and now - p.active >= seconds for p, _ in watched)
        if quiet and await _drained([source for _, source in watched]):
            return


async def _drained(sources: Sequence[Watched]) -> bool:
    try:
        backlogs = [await source.backlog() for source in sources]
    except PenstockError:
        return False
    healthy = all(source.healthy for source in sources)
    return healthy and all(b.pending == 0 and b.ack_pending == 0 for b in backlogs)
