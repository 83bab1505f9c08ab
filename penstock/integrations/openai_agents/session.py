"""`PenstockSession`: a conversation that any process can go on with."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
from agents.items import TResponseInputItem
from agents.memory import SessionABC, SessionSettings
from agents.memory.session_settings import resolve_session_limit

import penstock.sync
from penstock import Asked, ConversationItem, Publisher
from penstock.integrations.link import Result, Work, store
from penstock.integrations.texts import storable_document
from penstock.schemas import ConversationCleared, ConversationItemRemoved, ConversationItemsAdded

_PAGE = 100
_EVENT_BYTES = 512 * 1024
"""Items go in events of about this size, which fit into messages of 1 MiB."""


class PenstockSession(SessionABC):
    """The items of a conversation, which go over ``bus`` into PostgreSQL, and are read over it.

    ``bus`` is open, and may serve any number of sessions. A `penstock.sync.Publisher` works in
    every loop, as `Runner.run_sync` needs. Methods raise what `penstock.Publisher.publish` and
    `penstock.Reader` raise.
    """

    def __init__(
        self,
        session_id: str,
        bus: Publisher | penstock.sync.Publisher,
        *,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings or SessionSettings()
        self._bus = bus

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items, or the last ``limit`` of them, the oldest first."""
        left = resolve_session_limit(limit, self.session_settings)
        found: list[ConversationItem] = []
        after = None
        while left is None or len(found) < left:
            most = _PAGE if left is None else min(_PAGE, left - len(found))
            items, after = await self._page(most, after)
            found += items
            if after is None:
                break
        return [cast(TResponseInputItem, one.item) for one in reversed(found)]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end; they are stored when this returns."""
        for some in _fitting([_encoded(item) for item in items]):
            event = ConversationItemsAdded(conversation_id=self.session_id, items=some)
            await self._call(lambda bus, event=event: store(bus, event))  # type: ignore[misc]

    async def pop_item(self) -> TResponseInputItem | None:
        """Take back the last item, and return it; None if there is none."""
        found, _ = await self._page(1, None)
        if not found:
            return None
        (last,) = found
        removed = ConversationItemRemoved(
            conversation_id=self.session_id, event_id=last.event_id, n=last.n
        )
        await self._call(lambda bus: store(bus, removed))
        return cast(TResponseInputItem, last.item)

    async def clear_session(self) -> None:
        """Take back all items so far."""
        await self._call(
            lambda bus: store(bus, ConversationCleared(conversation_id=self.session_id))
        )

    async def _page(
        self, limit: int, after: str | None
    ) -> tuple[list[ConversationItem], str | None]:
        asked = Asked(limit=limit, after=after)
        page = await self._call(lambda bus: bus.read.page("conversation", self.session_id, asked))
        return [msgspec.json.decode(one, type=ConversationItem) for one in page.items], page.next

    async def _call(self, work: Work[Result]) -> Result:
        if isinstance(self._bus, Publisher):
            return await work(self._bus)
        return await asyncio.wrap_future(self._bus.start(work))


def _encoded(item: Any) -> msgspec.Raw:
    """An item as JSON, with U+FFFD for what PostgreSQL holds in no document."""
    try:
        text = msgspec.json.encode(item)
    except UnicodeEncodeError:
        text = b""
    if not text or b"\\u0000" in text:
        text = msgspec.json.encode(storable_document(msgspec.to_builtins(item)))
    return msgspec.Raw(text)


def _fitting(items: Sequence[msgspec.Raw]) -> Iterator[list[msgspec.Raw]]:
    some: list[msgspec.Raw] = []
    size = 0
    for item in items:
        if some and size + len(bytes(item)) > _EVENT_BYTES:
            yield some
            some, size = [], 0
        some.append(item)
        size += len(bytes(item))
    if some:
        yield some
