"""Reads over NATS, as who asks sees them."""

from collections.abc import Sequence

import msgspec
import nats.errors
from nats.aio.client import Client

from penstock.schemas.identity import escape
from penstock.worker.nats.headers import parse_headers, status_of
from penstock.worker.nats.requests import Inbox
from penstock.worker.nats.wire import Frame
from penstock.worker.sending.reads import (
    PATIENCE_SECONDS,
    SUBJECT,
    Asked,
    Page,
    ReadRefused,
    ReadUnavailable,
)
from penstock.worker.wording import why

PART_HEADER = "Penstock-Part"
"""In an answer that did not fit into one message: ``2/3`` for the second of three."""

_HEADER_ROOM = 512
_MOST_PARTS = 10_000
_UNAVAILABLE = 500
_decode = msgspec.json.Decoder(Page).decode


class NatsReading:
    """Asks over one connection."""

    def __init__(self, nc: Client) -> None:
        self._inbox = Inbox(nc, PATIENCE_SECONDS)

    async def ask(self, name: str, agent: str, asked: Asked) -> Page:
        """See `Reading.ask`."""
        request = (f"{SUBJECT}.{name}.{escape(agent)}", "", msgspec.json.encode(asked))
        what = f"{name} of agent {agent!r}"
        try:
            answers = await self._inbox.ask([request], _MOST_PARTS, _Complete())
        except (nats.errors.Error, OSError) as error:
            raise ReadUnavailable(f"{what}: {why(error)}") from error
        return _page([frame for _, frame in answers], what)


class _Complete:
    """Called with each part: true once all are there, or for what has no parts."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, frame: Frame) -> bool:
        self._seen += 1
        return self._seen >= _place(frame)[1]


def parts_of(answer: bytes, max_payload: int) -> Sequence[bytes]:
    """The answer in pieces, each with room for its headers."""
    room = max(max_payload - _HEADER_ROOM, _HEADER_ROOM)
    return [answer[at : at + room] for at in range(0, len(answer), room)]


def _place(frame: Frame) -> tuple[int, int]:
    number, slash, count = parse_headers(frame[2] or b"").get(PART_HEADER, "1/1").partition("/")
    return (int(number), int(count)) if slash and (number + count).isdigit() else (1, 1)


def _page(frames: Sequence[Frame], what: str) -> Page:
    """Raises ReadRefused, ReadUnavailable."""
    if not frames:
        raise ReadUnavailable(f"{what}: no answer in {PATIENCE_SECONDS:g} s")
    first = frames[0]
    headers = parse_headers(first[2] or b"")
    if status_of(first[2]) == b"503":
        raise ReadUnavailable(f"{what}: no worker answers reads; is one running, with `reads` on?")
    if (text := headers.get("Nats-Service-Error")) is not None:
        code = headers.get("Nats-Service-Error-Code", "")
        if not code.isdigit() or int(code) >= _UNAVAILABLE:
            raise ReadUnavailable(f"{what}: {text}")
        raise ReadRefused(int(code), f"{what}: {text}")
    ordered = sorted(frames, key=_place)
    if [number for number, _ in map(_place, ordered)] != list(range(1, _place(first)[1] + 1)):
        raise ReadUnavailable(f"{what}: a part of the answer is missing; ask again")
    try:
        return _decode(b"".join([frame[3] for frame in ordered]))
    except msgspec.MsgspecError as error:
        raise ReadUnavailable(f"{what}: the answer is not one of a worker: {error}") from error
