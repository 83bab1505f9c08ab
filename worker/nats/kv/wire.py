"""The requests that a bucket's stream understands, and what their answers mean.

Reading: JetStream Direct Get, many keys at once (nats-server 2.11) or one by one. Writing:
publishes that expect a revision, as one atomic batch (2.12, ADR-50) or one by one.
"""

from collections.abc import Iterator, Sequence

import msgspec
from nats.aio.client import Client
from nats.js.api import Header

from penstock.worker.nats.headers import parse_headers, status_of
from penstock.worker.nats.kv.guard import UNKNOWN, held_guard, message_of
from penstock.worker.nats.requests import (
    ATOMIC_DISABLED,
    BATCH_LIMIT,
    NO_STREAM,
    Ack,
    Inbox,
    Refusal,
    Request,
    ack_of,
    unfit,
)
from penstock.worker.nats.wire import Frame
from penstock.worker.pipeline.ports import KvRow

_ANSWER_BYTES = 4 * 1024 * 1024
"""Most bytes of the answer to a request for many keys; the rest is requested again."""

_SINGLE_READS = 64
"""Keys that are requested together where each has its own answer, of any size."""

_REQUEST_ROOM = 64
_LINES = 128
"""Bytes of the other header lines of a put: the revision, and those of a delete marker."""

_WRONG_REVISION = {10071, 10164}
_TOO_LARGE = 10054
_SEQUENCE = b"Nats-Sequence"
_SUBJECT = b"Nats-Subject"
_EXPECTED = Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
_NO_RESPONDERS = b"503"


class BucketMissing(Exception):
    """No stream takes the bucket's subjects, or its stream does not answer Direct Get."""

    def __init__(self) -> None:
        super().__init__("it is missing, or its stream does not allow Direct Get")


class Silent(Exception):
    """Not every answer arrived in time. The requests may have been carried out."""

    def __init__(self) -> None:
        super().__init__("no answer in time")


Put = tuple[KvRow, int]
"""A row, and the revision that its key must still have."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """What a key holds: its revision (0: nothing) and its guard as JSON."""

    revision: int
    guard: bytes


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The result of one publish: a ``revision``; 0 if it was refused or there was no answer.

    ``outrun``: another writer was faster. ``error`` is a reason other than that and the size.
    """

    revision: int = 0
    outrun: bool = False
    too_large: bool = False
    error: Refusal | None = None


_NOTHING = Held(0, UNKNOWN)
SILENCE = Outcome()


def _ack(frame: Frame) -> Ack:
    ack = ack_of(frame)
    if ack is NO_STREAM:
        raise BucketMissing
    return ack


def _added(header: bytes | None, name: bytes) -> bytes | None:
    """The header ``name`` that the server added to a stored message. It comes after a header of the
    same name that the writer may have set.

    None for a status of the server.
    """
    _, found, rest = (header or b"").rpartition(b"\r\n%b: " % name)
    return rest.partition(b"\r\n")[0] if found else None


def _is_control(frame: Frame) -> bool:
    """Whether this is a status of the server: only stored messages have a sequence."""
    return _added(frame[2], _SEQUENCE) is None


class BucketWire:
    """Talks to the stream behind one bucket. Raises the exceptions above and the client's."""

    def __init__(self, nc: Client, bucket: str, timeout: float) -> None:
        self._nc = nc
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._taken = b'{"stream":"%b", "seq":' % self._stream.encode()
        self._timeout = timeout
        self._inbox = Inbox(nc, timeout)
        self.relearn()

    async def close(self) -> None:
        """Stop listening for answers. Idempotent."""
        await self._inbox.close()

    def relearn(self) -> None:
        """Find out again what the server supports: it may be another one, or another stream."""
        version = self._nc.connected_server_version
        self._atomic = (version.major, version.minor) >= (2, 12)
        self._many_reads = True

    def unfit(self, row: KvRow) -> str | None:
        """Why this row cannot be sent, or its key requested; None if both are possible."""
        size = max(len(row.key), len(row.guard if row.value is None else row.value))
        return unfit(self._nc, self._prefix + row.key, size + _LINES)

    def all_fit(self, rows: Sequence[KvRow]) -> bool:
        """Whether no row is `unfit`, at a glance; False may be wrong."""
        key = max([row.key for row in rows], key=len, default="")
        bodies = [row.guard if row.value is None else row.value for row in rows]
        size = max(len(key), max(map(len, bodies), default=0))
        return unfit(self._nc, self._prefix + key, size + _LINES) is None

    async def read(self, keys: Sequence[str]) -> dict[str, Held]:
        """Read what the keys hold."""
        found: dict[str, Held] = {}
        if self._many_reads:
            for part in self._requests(keys):
                answer = await self._read_many(part)
                if answer is None:
                    self._many_reads = False
                    break
                found |= answer
        if not self._many_reads:
            for begin in range(0, len(keys), _SINGLE_READS):
                found |= await self._read_each(keys[begin : begin + _SINGLE_READS])
        return found

    def _requests(self, keys: Sequence[str]) -> Iterator[list[str]]:
        """The keys in groups: as many per request as are allowed and fit into its payload."""
        room = self._nc.max_payload - _REQUEST_ROOM
        beside = len(self._prefix) + 3  # two quotes and a comma
        part: list[str] = []
        left = room
        for key in keys:
            size = len(key) + beside
            if part and (size > left or len(part) == BATCH_LIMIT):
                yield part
                part, left = [], room
            part.append(key)
            left -= size
        if part:
            yield part

    async def _read_many(self, keys: Sequence[str]) -> dict[str, Held] | None:
        """None if the server is too old for such requests."""
        found: dict[str, Held] = {}
        left = list(keys)
        while True:
            wanted = [self._prefix + key for key in left]
            body = msgspec.json.encode({"multi_last": wanted, "max_bytes": _ANSWER_BYTES})
            request = (f"$JS.API.DIRECT.GET.{self._stream}", "", body)
            answers = await self._inbox.ask([request], len(left) + 1, _is_control)
            if not answers or not _is_control(answers[-1][1]):
                raise Silent
            end = answers.pop()[1]
            status = status_of(end[2])
            if status == _NO_RESPONDERS:
                raise BucketMissing
            if status not in {b"204", b"404"}:
                return None
            found |= {self._key_of(frame): self._held(frame) for _, frame in answers}
            left = [key for key in left if key not in found]
            if not answers or parse_headers(end[2] or b"").get("Nats-Num-Pending", "0") == "0":
                return found | dict.fromkeys(left, _NOTHING)

    def _key_of(self, frame: Frame) -> str:
        subject = (_added(frame[2], _SUBJECT) or b"").decode()
        return subject.removeprefix(self._prefix)

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

        With ``atomic`` all or none of them, if the server supports that.
        """
        if atomic and self._atomic and len(puts) > 1:
            outcomes = await self._put_atomic(puts)
            if outcomes is not None:
                return outcomes
        return await self._put_each(puts)

    async def _put_atomic(self, puts: Sequence[Put]) -> list[Outcome] | None:
        """None if nothing was written, because these rows cannot be written as a batch."""
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
            return [Outcome(outrun=True)] * count
        self._atomic = ack.error.err_code != ATOMIC_DISABLED
        return None

    async def _put_each(self, puts: Sequence[Put]) -> list[Outcome]:
        requests = [self._request(put) for put in puts]
        outcomes = [SILENCE] * len(puts)
        for index, frame in await self._inbox.ask(requests):
            outcomes[index] = self._outcome(frame)
        return outcomes

    def _outcome(self, frame: Frame) -> Outcome:
        plain = frame[3].removeprefix(self._taken)
        if frame[2] is None and plain[-1:] == b"}" and plain[:-1].isdigit():
            return Outcome(int(plain[:-1]))
        ack = _ack(frame)
        if ack.error is None:
            return Outcome(ack.seq)
        if ack.error.err_code in _WRONG_REVISION:
            return Outcome(outrun=True)
        if ack.error.err_code == _TOO_LARGE:
            return Outcome(too_large=True)
        return Outcome(error=ack.error)
