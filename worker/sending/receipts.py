"""Receipts: what the worker tells the author of an event, once it is stored."""

import asyncio
from itertools import count
from typing import Literal, Protocol

import msgspec

from penstock.worker.errors import PenstockError


class Receipt(msgspec.Struct, frozen=True):
    """The event is in PostgreSQL, and the agent's state in the bucket. ``outcome`` is ``stored``,
    or ``duplicate`` if it was there already, maybe from an earlier delivery of the same message.
    """

    outcome: Literal["stored", "duplicate"]


class EventRejected(PenstockError):
    """The event became a dead letter, for ``reason``, one of the closed list of the documentation;
    ``error`` says what exactly is wrong. Sending the same again changes nothing.
    """

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(f"{reason}: {error}")
        self.reason = reason
        self.error = error


class OutcomeUnknown(PenstockError):
    """No receipt has come in time. The event is untouched: it may be stored, or still will be;
    or there was no room to send it, as the text says then.

    Whoever publishes the same event again, with the same id, is told what became of it.
    """


class Answer(msgspec.Struct, frozen=True):
    """A receipt as it comes: see docs/receipts.md."""

    outcome: Literal["stored", "duplicate", "rejected"]
    reason: str = ""
    error: str = ""


_decode = msgspec.json.Decoder(Answer).decode


class Awaited(msgspec.Struct, frozen=True):
    """A receipt that is waited for: ``reply_to`` goes with the event, for `Sender.send`."""

    reply_to: str
    receipt: asyncio.Future[Receipt]


class Receipts(Protocol):
    """Asks for receipts, through one broker."""

    async def expect(self) -> Awaited:
        """Begin to wait for one receipt; cancel its future to stop. Raises Unavailable."""


class Waiting:
    """Those who wait for a receipt, each under a token of its own."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._waiting: dict[str, asyncio.Future[Receipt]] = {}

    def add(self) -> tuple[str, asyncio.Future[Receipt]]:
        """A new token, with its future."""
        token = f"{next(self._numbers):x}"
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting[token] = receipt
        receipt.add_done_callback(lambda _: self._waiting.pop(token, None))
        return token, receipt

    def take(self, token: str, body: bytes) -> None:
        """Pass an answer on. One that nobody waits for any more, or that is none, is dropped."""
        receipt = self._waiting.get(token)
        if receipt is None or receipt.done():
            return
        try:
            answer = _decode(body)
        except (msgspec.MsgspecError, RecursionError):
            return
        if answer.outcome == "rejected":
            receipt.set_exception(EventRejected(answer.reason, answer.error))
        else:
            receipt.set_result(Receipt(answer.outcome))

    def close(self) -> None:
        """Tell everybody that no more answers come."""
        for receipt in list(self._waiting.values()):
            if not receipt.done():
                receipt.set_exception(OutcomeUnknown("the publisher was closed before the receipt"))
                receipt.exception()  # mark it as retrieved: its caller may be gone
