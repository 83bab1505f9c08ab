"""What became of the events of a file, counted and told; and how each of them is sent."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import click

from penstock.worker.commands.documents import Document
from penstock.worker.commands.said import CLEAR_LINE
from penstock.worker.errors import PenstockError
from penstock.worker.publisher.asking import receipt_of
from penstock.worker.publisher.client import RECEIPT_SECONDS
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.ports import Outlet, Sender
from penstock.worker.sending.receipts import EventRejected, OutcomeUnknown, Receipt

_SHOWN = 20
"""Events that are reported one by one; further ones are only counted."""
_WAITING = 10_000
"""Events that may be without an outcome at the same time."""

Sent = asyncio.Future[Confirmation] | asyncio.Future[Receipt]
Send = Callable[[Document, str], Awaitable[Sent]]
"""Sends an event, with a prefix for its Nats-Msg-Id."""


def plain(sender: Sender) -> Send:
    """Ends when a stream has the event."""

    async def send(found: Document, prefix: str) -> Sent:
        return await sender.send(found.subject, found.payload, prefix + found.msg_id)

    return send


def asking(outlet: Outlet) -> Send:
    """Ends when a worker has told what became of the event. Raises PenstockError."""
    receipts = outlet.receipts
    if receipts is None:
        raise PenstockError("this broker carries no receipts: publish without --receipt")

    async def send(found: Document, prefix: str) -> Sent:
        awaited = await receipts.expect()
        # A stream would drop an event that it has, and nobody would ever answer.
        msg_id = f"{prefix}{found.msg_id}-{uuid7()}"
        sent = await outlet.sender.send(found.subject, found.payload, msg_id, awaited.reply_to)
        return receipt_of(found.subject, sent, awaited, RECEIPT_SECONDS)

    return send


class Tally:
    """Counts what happened to the events."""

    def __init__(self) -> None:
        self.done = self.duplicates = self.refused = self.rejected = self.unknown = 0
        self.broken = 0
        self._waiting: set[Sent] = set()

    async def room(self) -> None:
        """Wait while too many events have no outcome yet."""
        while len(self._waiting) >= _WAITING:
            await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)

    def sent(self, found: Document, sent: Sent) -> None:
        """Count the event as soon as its outcome is there."""
        self._waiting.add(sent)
        sent.add_done_callback(partial(self._settled, found.place))

    async def all_settled(self) -> None:
        """Wait until every event has its outcome."""
        if self._waiting:
            await asyncio.wait(self._waiting)

    def skipped(self, found: Document) -> None:
        """Count what is no event."""
        self.broken += 1
        self._report(found.place, f"skipped: {found.error}")

    @property
    def failures(self) -> int:
        return self.refused + self.rejected + self.unknown + self.broken

    def tell(self, *, again: bool) -> None:
        """Print the counts; where duplicates may hide a correction, say so."""
        click.echo(f"{self}, {self.broken} broken skipped" if self.broken else str(self))
        if self.duplicates and not again:
            click.echo(
                "A stream drops an event that it had recently, also if its content was corrected "
                "since: send it with --again.",
                err=True,
            )

    def _settled(self, place: str, done: asyncio.Future[Any]) -> None:
        self._waiting.discard(done)
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(place, error)
        elif self._was_there(done.result()):
            self.duplicates += 1
        else:
            self.done += 1

    def _failed(self, place: str, error: BaseException) -> None:
        if isinstance(error, EventRejected):
            self.rejected += 1
            self._report(place, f"rejected: {error}")
        elif isinstance(error, OutcomeUnknown):
            self.unknown += 1
            self._report(place, str(error))
        else:
            self.refused += 1
            self._report(place, str(error))

    @staticmethod
    def _was_there(result: Any) -> bool:
        return isinstance(result, Confirmation) and result.duplicate

    def _report(self, place: str, text: str) -> None:
        if self.failures <= _SHOWN:
            clear = CLEAR_LINE if sys.stderr.isatty() else ""  # the bar is drawn again
            click.echo(f"{clear}{place}: {text}", err=True)

    def __str__(self) -> str:
        return f"{self.done} published, {self.duplicates} duplicates, {self.refused} refused"


class Told(Tally):
    """Counts what workers told."""

    @staticmethod
    def _was_there(result: Any) -> bool:
        return bool(result.outcome == "duplicate")

    def tell(self, *, again: bool) -> None:  # noqa: ARG002  (no stream drops an event with a receipt)
        """Print the counts; a duplicate is one of the database's."""
        super().tell(again=True)

    def __str__(self) -> str:
        counts = f"{self.done} stored, {self.duplicates} duplicates, {self.rejected} rejected"
        unknown = f", {self.unknown} not known yet" if self.unknown else ""
        return f"{counts}, {self.refused} refused{unknown}"
