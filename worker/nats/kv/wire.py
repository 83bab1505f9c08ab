"""The requests that a bucket's stream understands, and what their answers mean.

Reading: JetStream Direct Get, many keys at once (nats-server 2.11) or one by one. Writing:
publishes that expect a revision, as one atomic batch (2.12, ADR-50) or each for itself.
"""

from collections.abc import Sequence

import msgspec
from nats.aio.client import Client
from nats.js.api import Header

from penstock.worker.nats.headers import parse_headers, status_of
from penstock.worker.nats.kv.guard import UNKNOWN, held_guard, message_of
from penstock.worker.nats.requests import (
    ATOMIC_DISABLED,
    NO_STREAM,
    Ack,
    Inbox,
    Request,
    ack_of,
)
from penstock.worker.nats.wire import Frame
from penstock.worker.pipeline.ports import KvRow

_WRONG_REVISION = {10071, 10164}
_TOO_LARGE = 10054
_SEQUENCE = b"Nats-Sequence"
_SUBJECT = b"Nats-Subject"
_EXPECTED = Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
_NO_RESPONDERS = b"503"


class BucketMissing(Exception):
    """No stream takes the bucket's subjects, or none answers Direct Get for it."""

    def __init__(self) -> None:
        super().__init__("it is missing, or its stream does not allow Direct Get")


class Silent(Exception):
    """Not every answer came in time. What was asked may have happened."""

    def __init__(self) -> None:
        super().__init__("no answer in time")


class StreamError(Exception):
    """The stream refuses for a reason that is not the revision. The message names it."""


Put = tuple[KvRow, int]
"""A row, and the revision that its key must still have."""


class Held(msgspec.Struct, frozen=True):
    """What a key holds: its revision (0: nothing) and its guard as JSON."""

    revision: int
    guard: bytes


class Outcome(msgspec.Struct, frozen=True):
    """What came of one publish: a ``revision``; 0 if it was refused or nothing was heard."""

    revision: int = 0
    refused: bool = False
    too_large: bool = False


_NOTHING = Held(0, UNKNOWN)
SILENCE = Outcome()


def _ack(frame: Frame) -> Ack:
    ack = ack_of(frame)
    if ack is NO_STREAM:
        raise BucketMissing
    return ack


def _added(header: bytes | None, name: bytes) -> bytes | None:
    """What the server added to a stored message, behind what its writer may have called the same.

    Nothing where the server itself speaks.
    """
    _, found, rest = (header or b"").rpartition(b"\r\n%b: " % name)
    return rest.partition(b"\r\n")[0] if found else None


def _is_control(frame: Frame) -> bool:
    """Whether the server speaks, and not the stream: only what is stored has a sequence."""
    return _added(frame[2], _SEQUENCE) is None


class BucketWire:
    """Speaks with the stream behind one bucket. Raises the exceptions above and the client's."""

    def __init__(self, nc: Client, bucket: str, timeout: float) -> None:
        self._nc = nc
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._timeout = timeout
        self._inbox = Inbox(nc, timeout)
        self.relearn()

    async def close(self) -> None:
        """Stop listening for answers. Idempotent."""
        await self._inbox.close()

    def relearn(self) -> None:
        """Find out anew what the server can do: another one may answer, or another stream."""
        version = self._nc.connected_server_version
        self._atomic = (version.major, version.minor) >= (2, 12)
        self._many_reads = True

    async def read(self, keys: Sequence[str]) -> dict[str, Held]:
        """What the keys hold, at most `BATCH_LIMIT` of them."""
        if self._many_reads:
            found = await self._read_many(keys)
            if found is not None:
                return found
            self._many_reads = False
        return await self._read_each(keys)

    async def _read_many(self, keys: Sequence[str]) -> dict[str, Held] | None:
        """None if the server is too old for it."""
        wanted = msgspec.json.encode({"multi_last": [self._prefix + key for key in keys]})
        request = (f"$JS.API.DIRECT.GET.{self._stream}", "", wanted)
        answers = await self._inbox.ask([request], len(keys) + 1, _is_control)
        if not answers or not _is_control(answers[-1][1]):
            raise Silent
        status = status_of(answers[-1][1][2])
        if status == _NO_RESPONDERS:
            raise BucketMissing
        if status not in {b"204", b"404"}:
            return None
        found = dict.fromkeys(keys, _NOTHING)
        for _, frame in answers[:-1]:
            subject = (_added(frame[2], _SUBJECT) or b"").decode()
            found[subject.removeprefix(self._prefix)] = self._held(frame)
        return found

    async def _read_each(self, keys: Sequence[str]) -> dict[str, Held]:
        subject = f"$JS.API.DIRECT.GET.{self._stream}.{self._prefix}"
        answers = await self._inbox.ask([(subject + key, "", b"") for key in keys])
        if len(answers) < len(keys):
            raise Silent
        return {keys[index]: self._held(frame) for index, frame in answers}

    @staticmethod
    def _held(frame: Frame) -> Held:
        _, _, header, value = frame
        sequence = _added(header, _SEQUENCE)
        if header is not None and sequence is not None:
            return Held(int(sequence), held_guard(parse_headers(header), value))
        if status_of(header) == _NO_RESPONDERS:
            raise BucketMissing
        return _NOTHING

    def _request(self, put: Put) -> Request:
        row, revision = put
        lines, body = message_of(row)
        return self._prefix + row.key, f"{lines}{_EXPECTED}: {revision}\r\n", body

    async def put(self, puts: Sequence[Put], *, atomic: bool) -> list[Outcome]:
        """Put every row whose key still has its revision, at most `BATCH_LIMIT` rows.

        With ``atomic`` all or none of them, where the server can.
        """
        if atomic and self._atomic and len(puts) > 1:
            outcomes = await self._put_atomic(puts)
            if outcomes is not None:
                return outcomes
        return await self._put_each(puts)

    async def _put_atomic(self, puts: Sequence[Put]) -> list[Outcome] | None:
        """None if nothing was written because these rows cannot go as a batch."""
        answer = await self._inbox.ask_atomic([self._request(put) for put in puts])
        if answer is None:
            return [SILENCE] * len(puts)
        return self._batch_outcomes(_ack(answer), len(puts))

    def _batch_outcomes(self, ack: Ack, count: int) -> list[Outcome] | None:
        if ack.error is None and ack.count == count:
            first = ack.seq - count + 1
            return [Outcome(revision) for revision in range(first, first + count)]
        if ack.error is None:  # an older server, behind this one, took them one by one
            self._atomic = False
            return [SILENCE] * count
        if ack.error.err_code in _WRONG_REVISION:
            return [Outcome(refused=True)] * count
        self._atomic = ack.error.err_code != ATOMIC_DISABLED
        return None

    async def _put_each(self, puts: Sequence[Put]) -> list[Outcome]:
        requests = [self._request(put) for put in puts]
        outcomes = [SILENCE] * len(puts)
        for index, frame in await self._inbox.ask(requests):
            outcomes[index] = self._outcome(puts[index][0].key, _ack(frame))
        return outcomes

    @staticmethod
    def _outcome(key: str, ack: Ack) -> Outcome:
        if ack.error is None:
            return Outcome(ack.seq)
        code = ack.error.err_code
        if code in _WRONG_REVISION:
            return Outcome(refused=True)
        if code == _TOO_LARGE:
            return Outcome(too_large=True)
        raise StreamError(f"key {key!r}: {ack.error.description} ({code})")
