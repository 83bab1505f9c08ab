"""The source of a replay: of a log only what is wanted, each message once, and then an end."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Self

from penstock.worker.ending import end
from penstock.worker.errors import Cause, SourceUnavailable, TopologyError
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.source import Log
from penstock.worker.replay.choice import Choice
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.replay.standing import Standing
from penstock.worker.replay.suspects import Suspects

_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 1.0
"""How long a message waits that came again while it is in work."""
_MISSING_SECONDS = 30.0
"""How long a server may say that it has no such thing: after its restart it may, for a moment."""
_NOTHING = Message(subject="", body=b"")


class ChosenSource:
    """Hands out of ``log`` what was stored ``until`` then, is of ``choice`` and not ``done`` yet,
    which ``standing`` says where there are no offsets. It stops by itself when all of that is
    settled. What may end the process, ``suspects`` marks.

    ``seen`` counts the messages that were read, wanted or not. It stops too once ``gone`` says why
    the log cannot be read to its end any more.
    """

    def __init__(
        self,
        log: Log,
        until: datetime | None,
        choice: Choice,
        suspects: Suspects,
        *,
        done: OffsetSet,
        standing: Standing,
    ) -> None:
        self.name = log.name
        self.transport = log.transport
        self.seen = self.wanted = 0
        self.gone = ""
        self._log = log
        self._until = until.timestamp() if until else None
        self._choice = choice
        self._done = done
        self._standing = standing
        self._suspects = suspects
        self._unsettled: set[int] = set()
        self._in_work: set[int] = set()
        self._passed: int | None = None
        self._looking: asyncio.Task[None] | None = None
        self._missing_since: float | None = None
        self._first: Batch | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look(), name=f"end of {self.name}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._looking is not None:
            await end(self._looking)

    def stop(self) -> None:
        self._log.stop()

    async def any(self) -> bool:
        """False if nothing is wanted. Nothing is lost by asking. Raises TopologyError if the log
        went meanwhile.
        """
        self._first = await self._next()
        if self.gone:
            raise TopologyError(self.gone)
        return bool(self._first)

    async def fetch(self) -> Batch:
        if first := self._first:
            self._first = None
            return first
        return await self._next()

    async def _next(self) -> Batch:
        while batch := await self._read():
            self.seen += len(batch)
            again, fresh = _apart(batch.messages, self._is_in_work)
            if again:
                await batch.part(again).nack(_AGAIN_SECONDS)
            if self._passed is None:
                self._passed = next(filter(self._ends, batch.messages), _NOTHING).offset
            wanted, other = _apart(fresh, self._wants)
            if other:
                await batch.part(other).ack()
            if wanted:
                self.wanted += len(wanted)
                self._begin(wanted)
                size = sum([message.size for message in wanted])
                marked = self._suspects.mark(wanted)  # on these objects: no column says it
                whole = len(wanted) == len(batch) and not marked
                return Batch(batch.messages if whole else wanted, size, self, epoch=batch.epoch)
        return batch

    async def _read(self) -> Batch:
        """The next of the log; nothing any more once that is gone, as after `stop`."""
        clock = asyncio.get_running_loop().time
        try:
            batch = await self._log.fetch()
        except TopologyError as error:
            return self._ended(error)
        except SourceUnavailable as error:
            if error.cause is not Cause.MISSING:
                self._missing_since = None
                raise
            self._missing_since = since = self._missing_since or clock()
            if clock() - since < _MISSING_SECONDS:
                raise
            return self._ended(error)
        self._missing_since = None
        return batch

    def _ended(self, error: Exception) -> Batch:
        self.gone = f"{error}; reading ended after {self.seen} messages"
        return Batch([], 0, self)

    async def ack(self, batch: Batch) -> None:
        for message in batch.messages:
            if message.offset is not None:
                self._done.add(message.offset)
                self._unsettled.discard(message.offset)
                self._in_work.discard(message.offset)
        await self._log.ack(batch)

    async def nack(self, batch: Batch, delay: float) -> None:
        self._in_work.difference_update([one.offset for one in batch.messages])
        await self._log.nack(batch, delay)

    def _begin(self, messages: Sequence[Message]) -> None:
        offsets = [one.offset for one in messages if one.offset is not None]
        self._unsettled.update(offsets)
        self._in_work.update(offsets)

    def _is_in_work(self, message: Message) -> bool:
        """Whether it came again too early, as after its consumer was lost: it must not be counted
        twice, nor settled before the first one is.
        """
        return message.offset in self._in_work

    def _wants(self, message: Message) -> bool:
        return (
            not self._behind(message)
            and not self._is_done(message)
            and self._choice(message.subject)
        )

    def _is_done(self, message: Message) -> bool:
        if message.offset is None:
            return message.mark in self._standing
        return message.offset in self._done

    def _behind(self, message: Message) -> bool:
        last, until = self._log.last, self._until
        if message.offset is None:
            return False
        if last is not None and message.offset > last:
            return True
        return until is not None and (message.stored_at or 0.0) > until

    def _ends(self, message: Message) -> bool:
        """Whether nothing that is wanted stands behind it."""
        last = self._log.last
        return (last is not None and message.offset == last) or self._behind(message)

    async def _look(self) -> None:
        """Stop once nothing is left. What was returned for redelivery is not settled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._unsettled:
                continue
            with contextlib.suppress(SourceUnavailable):
                if await self._log.over(self._passed):
                    break
        self._log.stop()


def _apart(
    messages: Sequence[Message], wanted: Callable[[Message], bool]
) -> tuple[list[Message], list[Message]]:
    """The messages that are wanted, and the others."""
    found: tuple[list[Message], list[Message]] = ([], [])
    for message in messages:
        found[not wanted(message)].append(message)
    return found
