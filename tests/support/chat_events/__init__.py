"""Events of a user's own that fill a second bucket: chats."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import EventData, Json
from penstock.schemas.mapping import KEY_TEXT, Hydrate, Log, Upsert, event

ChatId = Annotated[str, Meta(min_length=1, max_length=255, extra={"id": "chat"})]


@event(
    "chats.saved",
    key="chat_id",
    stream="CHATS",
    history=Log("chats"),
    states=(
        Upsert(
            table="chats.chat",
            key=("chat_id",),
            last=("data",),
            once=("external_id",),
            values={"external_id": KEY_TEXT},
        ),
    ),
    kv=(Hydrate("chats.kv_chat", ("chat_id",), bucket="CHAT_DATA"),),
)
class ChatSaved(EventData, frozen=True, kw_only=True):
    """A chat was saved."""

    chat_id: ChatId
    data: Json = None
