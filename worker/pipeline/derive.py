"""Having derived values worked out: after the commit, and whatever was left over.

What is due stands in PostgreSQL, written with the events that it follows from. So nothing here can
lose any of it: what fails, or is cut short, is due still, and some worker comes by again.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.metrics import Metrics

log = structlog.get_logger()

_SWEEP_SECONDS = 5.0
_BETWEEN_JOBS_SECONDS = 1.0
_MOST_AT_ONCE = 500
_GROWTH = 4
"""By how much fewer rows are taken after a failure, to find the one at fault, and more again."""


class Failed(PenstockError):
    """A function failed for ``keys``."""

    def __init__(self, message: str, keys: Sequence[Sequence[str]]) -> None:
        super().__init__(message)
        self.keys = keys


class Due(Protocol):
    """What is still to be worked out."""

    async def take(self, function: str, most: int) -> int:
        """Work out the keys of the first ``most`` rows that are due, in one transaction; says how
        many keys. Rows that somebody else is at are passed over.

        Raises Failed if the function does, and Unavailable if PostgreSQL is away.
        """

    async def put_off(self, function: str, error: Failed) -> None:
        """Try its keys later, and keep the reason. Raises Unavailable."""


class NotDerived:
    """For what writes nothing, or leaves what is due to the workers."""

    async def derive(self, functions: Collection[str]) -> None:
        """Nothing is worked out."""


class Deriver:
    """Works out what is due, one round at a time. Batches that commit during a round are served
    together by the next one. ``swept`` is set once all that was left over has been looked at.
    """

    def __init__(self, due: Due, functions: Collection[str], metrics: Metrics) -> None:
        self.swept = asyncio.Event()
        self._due = due
        self._functions = functions
        self._metrics = metrics
        self._waiting: set[str] = set()
        self._turn = asyncio.Lock()
        self._asked = self._served = 0

    async def derive(self, functions: Collection[str]) -> None:
        """Return once nothing is due to ``functions`` that was before, but for what failed or could
        not be done now. That stays due, and is no error here.
        """
        if not functions:
            return
        self._waiting |= set(functions)
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._served < mine:
                serving, waiting = self._asked, self._waiting
                self._waiting = set()
                await self._round(waiting)
                self._served = serving

    async def sweep(self) -> None:
        """Work out what is left over, again and again, until cancelled."""
        while True:
            await self.derive(self._functions)
            self.swept.set()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _round(self, functions: Collection[str]) -> None:
        try:
            for function in sorted(functions):
                await self._all_of(function)
        except PenstockError as error:
            log.warning("derive_interrupted", error=str(error))

    async def _all_of(self, function: str) -> None:
        """Piece by piece. A key that the function fails for is put off, and the others go on."""
        most = _MOST_AT_ONCE
        while True:
            try:
                count = await self._due.take(function, most)
            except Failed as error:
                if most == 1:
                    await self._put_off(function, error)
                most = max(1, most // _GROWTH)
                continue
            if not count:
                return
            self._metrics.derived(function, count)
            most = min(_MOST_AT_ONCE, most * _GROWTH)

    async def _put_off(self, function: str, error: Failed) -> None:
        await self._due.put_off(function, error)
        self._metrics.derive_failed(function)
        log.error("derive_failed", function=function, keys=error.keys, error=str(error))


class Job(Protocol):
    """What is worked out by the clock."""

    async def due(self) -> Sequence[str]:
        """The names of jobs whose time has come. Raises Unavailable."""

    async def run(self, name: str) -> dict[str, Any] | None:
        """Run it, if it is due still and nobody else is at it; says what came of it. Raises
        PenstockError, and has kept the reason then.
        """


async def keep_jobs(jobs: Job, metrics: Metrics) -> None:
    """Run jobs when their time has come and it is this worker's turn, until cancelled. Several are
    not run in one go: each keeps PostgreSQL busy, and events would wait for all of them.
    """
    while True:
        try:
            for name in await jobs.due():
                await _run(jobs, name, metrics)
                await asyncio.sleep(_BETWEEN_JOBS_SECONDS)
        except PenstockError as error:
            log.debug("jobs_unknown", error=str(error))
        await asyncio.sleep(_SWEEP_SECONDS)


async def _run(jobs: Job, name: str, metrics: Metrics) -> None:
    try:
        done = await jobs.run(name)
    except PenstockError as error:
        metrics.job_ran(name, failed=True)
        log.error("job_failed", job=name, error=str(error))  # noqa: TRY400  (no fault of this code)
    else:
        if done is not None:
            metrics.job_ran(name, failed=False)
            say = log.info if done["changed"] else log.debug
            say("job_done", job=name, **done)
