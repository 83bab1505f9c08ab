"""Reads over the bus for an agent: no address of a database, and no password."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import msgspec

from penstock.worker.sending.reads import Asked, Page, Reading, ReadRefused
from penstock.worker.sending.state import StateMissing


class StateItem(msgspec.Struct, frozen=True):
    """A key as PostgreSQL has it, or as a checkpoint or an event had it."""

    key: str
    version: int = msgspec.field(name="v", default=0)
    updated: datetime | None = msgspec.field(name="t", default=None)
    value: Any = msgspec.field(name="val", default=None)
    expires: datetime | None = msgspec.field(name="exp", default=None)


class StateChange(StateItem, frozen=True, kw_only=True):
    """One change in the history of a key; ``omitted`` is 0, or the bytes of a value that the
    history does not keep.
    """

    event_id: str = msgspec.field(name="id")
    type: str
    source: str | None = None
    actor: str | None = None
    omitted: int = 0


class CheckpointItem(msgspec.Struct, frozen=True):
    """A checkpoint of an agent's state, without what it keeps."""

    checkpoint_id: str
    name: str | None
    trigger: str | None
    time: datetime


class ConversationItem(msgspec.Struct, frozen=True):
    """An item of a conversation; ``event_id`` and ``n`` name it."""

    event_id: str
    n: int
    time: datetime = msgspec.field(name="t")
    item: Any


class Reader:
    """Asks workers. Every method raises ReadUnavailable if none answers, and ReadRefused."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def state(self, agent_id: str, key: str) -> StateItem:
        """One key. Raises StateMissing."""
        page = await self.page("state", agent_id, Asked(key=key))
        if not page.items:
            raise StateMissing(f"{key!r} of agent {agent_id!r}: not in PostgreSQL")
        return msgspec.json.decode(page.items[0], type=StateItem)

    def states(self, agent_id: str) -> AsyncGenerator[StateItem]:
        """All keys, by name."""
        return self._all("state", agent_id, None, StateItem)

    def history(self, agent_id: str, key: str | None = None) -> AsyncGenerator[StateChange]:
        """The changes of a key, or of all; the newest first."""
        return self._all("history", agent_id, key, StateChange)

    def checkpoints(self, agent_id: str) -> AsyncGenerator[CheckpointItem]:
        """All checkpoints, the newest first."""
        return self._all("checkpoints", agent_id, None, CheckpointItem)

    def checkpoint(self, agent_id: str, named: str) -> AsyncGenerator[StateItem]:
        """The keys of a checkpoint, which is named by its id or its name."""
        return self._all("checkpoint", agent_id, named, StateItem)

    def conversation(self, conversation_id: str) -> AsyncGenerator[ConversationItem]:
        """The items of a conversation, the newest first."""
        return self._all("conversation", conversation_id, None, ConversationItem)

    async def page(self, name: str, agent_id: str, asked: Asked) -> Page:
        """One page of any read."""
        try:
            return await self._reading.ask(name, agent_id, asked)
        except UnicodeEncodeError as error:
            text = f"{name} of agent {agent_id!r}: a text contains half of a surrogate pair"
            raise ReadRefused(400, text) from error

    async def _all(
        self, name: str, agent_id: str, key: str | None, kind: type[Any]
    ) -> AsyncGenerator[Any]:
        after = None
        while True:
            page = await self.page(name, agent_id, Asked(key=key, after=after))
            for item in page.items:
                yield msgspec.json.decode(item, type=kind)
            if (after := page.next) is None:
                return
