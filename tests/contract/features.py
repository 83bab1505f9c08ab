"""What the ways to read a broker do beyond the port, or not quite: the suite shows both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.worker.pipeline.source import WatchedSource


@dataclass(frozen=True)
class Features:
    """One way to read a broker. ``make`` opens a source, ``kind`` names its sort of queue.

    ``bus`` is called with these features, an address, a stack and the ack wait. ``address`` and
    ``server`` are names of fixtures: where a server is, and one that the test may kill and stop.
    """

    name: str
    make: Callable[..., WatchedSource]
    bus: Callable[..., "Bus"]
    address: str
    server: str
    kind: str = ""
    status_headers_are_data: bool = True
    """A user's header ``Status:`` does not keep a message from arriving."""
    first_offset: int | None = 1
    """Of the first message; None if a queue has no offsets."""
    names_epochs: bool = True
    """A queue that is recreated under the same name is another epoch."""
    notices_remakes: bool = True
    """A queue that is recreated between two fetches is noticed."""
    eager: bool = True
    """A message that comes alone is not kept waiting for others."""
    shares: bool = True
    """Replicas divide the messages among them."""
    overshoot: int = 0
    """Bytes that come at most beyond what there is memory for."""
    counts_deliveries: bool = True
    """The broker knows what was delivered before, to anybody."""
    attributes: Mapping[str, str] = field(
        default_factory=lambda: {"ce-type": "tasks.created", "Content-Type": "application/json"}
    )
    """Headers of a message in binary mode."""


class Bus(Protocol):
    """How the suite publishes to a broker and opens sources on it."""

    features: Features

    async def open(self) -> None:
        """Connect, and make an empty queue."""

    async def remove(self) -> None:
        """Leave nothing behind on a server that stays."""

    async def publish(self, bodies: Sequence[bytes], headers: dict[str, str] | None = None) -> None:
        """Publish to ``c.0``, ``c.1`` and so on, each confirmed."""

    async def open_source(self, **options: Any) -> WatchedSource:
        """A source with a connection of its own, not entered yet."""

    async def ready(self, source: WatchedSource) -> WatchedSource:
        """Enter a source for the rest of the test."""

    async def cut(self, source: WatchedSource) -> None:
        """Lose the connection of a replica as if its process had died."""

    async def deafen(self, source: WatchedSource) -> None:
        """Let a source's connection read nothing more, and not notice it."""

    async def remake(self) -> None:
        """Delete the queue and make another one of that name."""
