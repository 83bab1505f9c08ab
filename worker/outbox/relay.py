"""Relaying: rows that wait become messages, and are marked once the broker has confirmed them.

Why events of one key keep their order, whoever relays and whoever dies: a row is sent only after
all rows of its key before it, as far as they were waiting, have been confirmed. So the first copy
of each reaches the stream after the first copies of those before it, and all further copies have
the same ids. That holds for each relay by itself, so two at once do no harm; taking turns only
saves sending everything twice.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from penstock.worker.ending import end
from penstock.worker.errors import PenstockError
from penstock.worker.outbox.drafts import Draft, Drafts
from penstock.worker.outbox.ports import Outbox, OutboxRow, Outcome, Refused, Turn
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.sending.outgoing import PublishFailed, PublishRefused
from penstock.worker.sending.ports import Sender

log = structlog.get_logger()
Item = TypeVar("Item")

BROKER_REFUSED = "publish_refused"
"""The reason of a row that is a valid event, which the broker does not take."""

_POLL_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0
"""After that without a confirmation another worker gets the turn: it may reach the broker."""

_PAUSE_SECONDS = 2.5
"""After a turn that failed; longer than others wait before they ask for theirs."""


class Relay:
    """Sends the rows of ``outbox`` through ``sender``. A domain that is stuck delays no other."""

    def __init__(self, outbox: Outbox, sender: Sender, drafts: Drafts, metrics: Metrics) -> None:
        self._outbox = outbox
        self._sender = sender
        self._drafts = drafts
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._unmarked: list[Outcome] = []

    async def run(self) -> None:
        """Relay whenever it is this worker's turn, until cancelled."""
        while True:
            try:
                async with self._outbox.turn(self._wake) as turn:
                    log.info("outbox_turn_taken")
                    await self._settle_what_was_left(turn)
                    await self._work(turn)
            except PenstockError as error:
                log.warning("outbox_interrupted", error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _work(self, turn: Turn) -> None:
        """Batch after batch, one of each domain at a time. Raises what ends the turn."""
        busy: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._wake.clear()
                for domain in [name for name, task in busy.items() if task.done()]:
                    busy.pop(domain).result()
                rows = await turn.waiting(list(busy))
                for domain, own in _by(rows, lambda row: row.domain).items():
                    busy[domain] = self._spawn(turn, domain, own)
                if not rows:
                    await self._sleep()
        finally:
            await end(*busy.values())
            await asyncio.gather(*busy.values(), return_exceptions=True)

    def _spawn(self, turn: Turn, domain: str, rows: Sequence[OutboxRow]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._batch(turn, rows), name=f"outbox {domain}")
        task.add_done_callback(lambda _: self._wake.set())
        return task

    async def _sleep(self) -> None:
        """Until there may be something to do. Commits may go by without a word."""
        try:
            await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)
        except TimeoutError:
            return

    async def _batch(self, turn: Turn, rows: Sequence[OutboxRow]) -> None:
        """Send rows of one domain and mark them. Raises PublishFailed, SinkUnavailable."""
        drafts, refused = self._drafts.make(rows)
        outcome = Outcome(refused=refused)
        failures: list[PublishFailed] = []
        try:
            async with asyncio.TaskGroup() as keys:
                for own in _by(drafts, lambda draft: draft.row.key).values():
                    keys.create_task(self._in_order(own, outcome, failures))
        finally:  # what is confirmed is marked, even if the worker is stopping
            await self._settle(turn, outcome)
        if failures:
            raise failures[0]

    async def _in_order(
        self, drafts: Sequence[Draft], outcome: Outcome, failures: list[PublishFailed]
    ) -> None:
        """Send messages of one key, each after the one before it is confirmed or refused."""
        for draft in drafts:
            row = draft.row.outbox_id
            try:
                await self._send(draft)
            except PublishRefused as error:
                outcome.refused.append(Refused(row, BROKER_REFUSED, str(error)))
            except PublishFailed as error:
                failures.append(error)
                return
            else:
                outcome.published.append(row)

    async def _send(self, draft: Draft) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                sent = await self._sender.send(draft.subject, draft.body, draft.row.event_id)
                await sent
        except TimeoutError as error:
            raise PublishFailed(
                f"{draft.subject!r} was not confirmed in {_PATIENCE_SECONDS:g} s"
            ) from error

    async def _settle(self, turn: Turn, outcome: Outcome) -> None:
        """Mark what is done. What PostgreSQL does not take now it gets before anything is sent
        again: a table that cannot be written must not make us send the same rows for ever.
        """
        try:
            await turn.settle(outcome)
        except BaseException:
            self._unmarked.append(outcome)
            raise
        for found in outcome.refused:
            log.error("outbox_row_refused", outbox_id=found.outbox_id, reason=found.reason)
        self._metrics.outbox_relayed(len(outcome.published), len(outcome.refused))

    async def _settle_what_was_left(self, turn: Turn) -> None:
        while self._unmarked:
            await self._settle(turn, self._unmarked.pop())


def _by(items: Iterable[Item], name: Callable[[Item], str]) -> Mapping[str, list[Item]]:
    """Items by a name of theirs, in their order."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(name(item), []).append(item)
    return found


def relaying(
    outbox: Outbox, sender: Sender, drafts: Drafts, metrics: Metrics
) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
    """What a worker does for the outbox, by name: each to be run until cancelled."""
    relay = Relay(outbox, sender, drafts, metrics)
    return {"outbox": relay.run, "watch-outbox": partial(watch, outbox, metrics)}


async def watch(outbox: Outbox, metrics: Metrics) -> None:
    """Tell how much waits, until cancelled, whoever relays."""
    while True:
        try:
            found = await outbox.backlog()
            metrics.outbox_backlog(found.waiting, found.refused, found.oldest_age)
        except PenstockError as error:
            log.debug("outbox_unknown", error=str(error))
        await asyncio.sleep(_POLL_SECONDS)
