"""Receipts: whoever asked for one is told what became of an event, once its batch is stored.

Each broker has its own way to ask and to answer (`Replies`). A batch in which nobody asks costs one
search over its headers.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from penstock.schemas.event import Event
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import DeadLetter, Message, Written

log = structlog.get_logger()

Address = Any
"""Where an answer goes; only the broker's room knows what it is made of."""

_ERROR_LENGTH = 1_000
_WORDS = {word: msgspec.json.encode({"outcome": word}) for word in ("stored", "duplicate")}


class Replies(Protocol):
    """Answers to publishers, through one broker."""

    def asked(self, messages: Sequence[Message]) -> Iterable[tuple[int, Address]]:
        """The places of the messages whose publishers ask for a receipt, each with an address that
        answers may go to. Whoever asks for anything else gets none.
        """

    def send(self, answers: Sequence[tuple[Address, bytes]]) -> bool:
        """Send all answers in one write, without waiting. False if they cannot be sent now; they
        are not kept.
        """


def asking(
    headers: Sequence[bytes | None], name: bytes, read: Callable[[bytes], Address | None]
) -> Iterator[tuple[int, Address]]:
    """The places of the headers that hold ``name``, each with the address that ``read`` finds.

    All are searched together first: of most batches nobody asks.
    """
    if name not in b"".join(filter(None, headers)):
        return
    for place, header in enumerate(headers):
        if header and name in header and (address := read(header)) is not None:
            yield place, address


class NoReplies:
    """For whoever answers nobody."""

    def asked(self, messages: Sequence[Message]) -> Iterable[tuple[int, Address]]:  # noqa: ARG002
        """Nobody is heard."""
        return ()

    def send(self, answers: Sequence[tuple[Address, bytes]]) -> bool:  # noqa: ARG002
        """Nothing is sent."""
        return False


class Receipts:
    """Answers for one source."""

    def __init__(self, replies: Replies, metrics: Metrics, source: str) -> None:
        self._replies = replies
        self._metrics = metrics
        self._source = source

    def answer(self, batch: Batch, written: Written) -> None:
        """Tell those who asked; after the commit and the bucket, before the acknowledgement. So who
        dies in between answers once more after the redelivery, then with ``duplicate``.

        Never raises: the batch is stored, whatever becomes of its receipts.
        """
        try:
            asked = list(self._replies.asked(batch.messages))
            if asked:
                self._answer(asked, batch, written)
        except Exception:
            log.exception("receipts_failed", source=self._source)

    def _answer(self, asked: Sequence[tuple[int, Address]], batch: Batch, written: Written) -> None:
        addresses = [address for _, address in asked]
        outcomes = list(_outcomes([batch.outcomes[place] for place, _ in asked], written))
        bodies = map(_body, outcomes)
        sent = self._replies.send(list(zip(addresses, bodies, strict=True)))
        for word, count in Counter(
            map(_word, outcomes) if sent else ["unsent"] * len(asked)
        ).items():
            self._metrics.receipts(self._source, word, count)


Outcome = str | DeadLetter
"""``stored``, ``duplicate``, or why not."""


def _outcomes(decoded: Sequence[Event | DeadLetter], written: Written) -> Iterator[Outcome]:
    """What became of each, in order. Of an event that is there twice the first counts as stored."""
    new = {(event.id, event.time) for event in written.events}
    refused = {(one.event_id, one.occurred_at): one for one in written.refused}
    for one in decoded:
        if isinstance(one, DeadLetter):
            yield one
            continue
        key = (one.id, one.time)
        if (letter := refused.get(key)) is not None:
            yield letter
        elif key in new:
            new.remove(key)
            yield "stored"
        else:
            yield "duplicate"


def _word(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else "rejected"


def _body(outcome: Outcome) -> bytes:
    if isinstance(outcome, str):
        return _WORDS[outcome]
    error = outcome.error[:_ERROR_LENGTH].encode("utf-8", "replace").decode()
    return msgspec.json.encode({"outcome": "rejected", "reason": outcome.reason, "error": error})
