"""A broker in this process: it keeps messages as long as the process runs, shares a stream among
its readers, and loses connections on demand.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import uuid4

from penstock.worker.pipeline.ports import Message
from penstock.worker.sending.outgoing import Confirmation, PublishRefused


class Reader(Protocol):
    """A reader of a stream, as the server sees it."""

    def pull(self) -> None:
        """There may be something to take."""

    def attach(self, stream: "Stream") -> None:
        """The stream was recreated."""

    def let_go(self) -> None:
        """The connection is lost: return what is not settled."""


class MemoryMessage(Message):
    """A stored message: ``place`` is its offset, ``times`` counts deliveries."""

    place: int
    sent: Mapping[str, str]
    since: float
    times: int = 0

    @property
    def headers(self) -> Mapping[str, str]:
        return self.sent

    @property
    def offset(self) -> int:
        return self.place

    @property
    def deliveries(self) -> int:
        return self.times

    @property
    def stored_at(self) -> float:
        return self.since


class Stream:
    """The unacknowledged messages: waiting, held by a reader, or delayed for redelivery."""

    def __init__(self) -> None:
        self.epoch = uuid4().hex
        self.readers: list[Reader] = []
        self.waiting: deque[MemoryMessage] = deque()
        self.held: dict[int, MemoryMessage] = {}
        self._last = 0

    def store(self, subject: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Append a message. Returns its offset."""
        self._last += 1
        plain = not any(name.lower().startswith(("ce-", "content-type")) for name in headers)
        message = MemoryMessage(
            subject=subject,
            body=body,
            plain=plain,
            place=self._last,
            sent=dict(headers),
            since=time.time(),
        )
        self.waiting.append(message)
        self.wake()
        return self._last

    def take(self) -> MemoryMessage:
        """The next message, which is held from now on. There must be one."""
        message = self.waiting.popleft()
        message.times += 1
        self.held[message.place] = message
        return message

    def forget(self, message: Message) -> None:
        """Settle a message. Does nothing if it belongs to another stream."""
        if self.holds(message):
            del self.held[message.offset or 0]

    def put_back(self, messages: Sequence[Message]) -> None:
        """Return messages for redelivery, the oldest first."""
        back = [message for message in messages if self.holds(message)]
        for message in back:
            del self.held[message.offset or 0]
        self.waiting.extendleft(reversed([m for m in back if isinstance(m, MemoryMessage)]))
        self.wake()

    def holds(self, message: Message) -> bool:
        """True if the message was delivered from this stream and is not settled."""
        return self.held.get(message.offset or 0) is message

    def wake(self) -> None:
        """Let every reader look for messages."""
        for reader in self.readers:
            reader.pull()


class MemoryServer:
    """Streams by name, and the prefixes of the subjects that each takes."""

    def __init__(self) -> None:
        self.up = True
        self.streams: dict[str, Stream] = {}
        self._subjects: dict[str, tuple[str, ...]] = {}

    def make(self, name: str, subjects: Sequence[str]) -> None:
        """Create an empty stream, in place of an earlier one if there is one."""
        old = self.streams.get(name)
        self.streams[name] = Stream()
        self._subjects[name] = tuple(subject.removesuffix(">") for subject in subjects)
        for reader in old.readers if old else ():
            reader.attach(self.streams[name])

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str]) -> Confirmation:
        """Store a message. Raises PublishRefused if no stream takes it."""
        for name, prefixes in self._subjects.items():
            if subject.startswith(prefixes):
                return Confirmation(name, self.streams[name].store(subject, body, headers))
        raise PublishRefused(f"no stream takes {subject!r}")

    def go_down(self) -> None:
        """Lose every connection, keep every message."""
        self.up = False
        for stream in self.streams.values():
            for reader in stream.readers:
                reader.let_go()

    def come_back(self) -> None:
        """Accept connections again."""
        self.up = True
        for stream in self.streams.values():
            stream.wake()
