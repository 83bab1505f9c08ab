"""Reads over the bus: what is asked, what is answered, and who answers."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from penstock.worker.errors import PenstockError, Unavailable

SUBJECT = "penstock.read"
"""A read is a request to this, its name, and the agent, escaped as in the subjects of events."""


PATIENCE_SECONDS = 30.0
"""How long who asks waits for an answer, as for a receipt: many may be asking at once. That nobody
answers at all is told sooner, by the broker.
"""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked of an agent: one ``key`` (of a checkpoint: its id or name), or all; at most
    ``limit`` items, those behind ``after``, which is the ``next`` of the page before. ``where`` is
    what else a read lets one choose by.
    """

    key: str | None = None
    where: dict[str, Any] | None = None
    limit: int = 100
    after: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Items, and where the next page begins; None behind the last."""

    items: Sequence[Raw]
    next: str | None = None


class ReadRefused(PenstockError):
    """The request is wrong, or there is nothing of the kind. ``code`` is as in HTTP."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ReadUnavailable(Unavailable):
    """No worker answers, or PostgreSQL is away from those that do. Try again later."""


class Answering(Protocol):
    """Answers reads."""

    @property
    def names(self) -> Sequence[str]:
        """The reads that there are."""

    @property
    def at_once(self) -> int:
        """How many may be asked at once, without one waiting for another."""

    async def answer(self, name: str, agent: str, body: bytes) -> bytes:
        """A page as JSON. Raises ReadRefused, Unavailable."""


class Reading(Protocol):
    """Asks, through one broker."""

    async def ask(self, name: str, agent: str, asked: Asked) -> Page:
        """The page. Raises ReadRefused, ReadUnavailable."""
