"""Events of a user's own with tables that make it hard: names that SQL keeps for itself, parents of
parents whose names sort the wrong way round.
"""

from typing import Any

import msgspec

from penstock.schemas import KEY_TEXT, EventData, History, Ref, Text, Upsert, event
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Count, Event
from penstock.schemas.identity import AnyId
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import Message
from tests.support.batches import batch_of

TABLES = """
CREATE SCHEMA own;
CREATE TABLE own."user" (top_id uuid PRIMARY KEY, external_id text, is_stub boolean NOT NULL
    DEFAULT false, "select" text, version bigint, version_at timestamptz, version_event uuid);
CREATE TABLE own."table" (mid_id uuid PRIMARY KEY, external_id text, top_id uuid
    REFERENCES own."user", "limit" bigint, version bigint, version_at timestamptz,
    version_event uuid);
CREATE TABLE own."order" (leaf_id uuid PRIMARY KEY, mid_id uuid REFERENCES own."table",
    "from" text, "order" text, "group" bigint, "end" text COLLATE "unicode",
    created_at timestamptz, created_event uuid, version bigint, version_at timestamptz,
    version_event uuid);
CREATE TABLE own."group" (event_id uuid, occurred_at timestamptz, leaf_id uuid, "select" text,
    "group" bigint, PRIMARY KEY (event_id, occurred_at));
"""


@event(
    "things.top",
    key="top_id",
    stream="THINGS",
    states=(
        Upsert(
            "own.user",
            key=("top_id",),
            last=("select",),
            once=("external_id",),
            values={"external_id": KEY_TEXT},
        ),
    ),
)
class Top(EventData, frozen=True, kw_only=True):
    """Has no parent."""

    top_id: AnyId
    select: Text | None = None


@event(
    "things.mid",
    key="mid_id",
    stream="THINGS",
    states=(
        Upsert(
            "own.table",
            key=("mid_id",),
            last=("top_id", "limit"),
            once=("external_id",),
            values={"external_id": KEY_TEXT},
        ),
    ),
    refs=(Ref("top_id", "own.user"),),
)
class Mid(EventData, frozen=True, kw_only=True):
    """Has a parent and children."""

    mid_id: AnyId
    top_id: AnyId | None = None
    limit: Count = 0


@event(
    "things.leaf",
    key="leaf_id",
    stream="THINGS",
    history=History("own.group", ("leaf_id", "select", "group")),
    states=(
        Upsert(
            "own.order",
            key=("leaf_id",),
            first=("from",),
            last=("mid_id", "order"),
            add=("group",),
            max=("end",),
            values={"from": "somewhere"},
        ),
    ),
    refs=(Ref("mid_id", "own.table"),),
)
class Leaf(EventData, frozen=True, kw_only=True):
    """Refers to one that refers to another."""

    leaf_id: AnyId
    mid_id: AnyId | None = None
    order: Text | None = None
    group: Count = 1
    end: Text | None = None
    select: Text | None = None


CATALOGUE = Catalogue([Top, Mid, Leaf])


def thing(
    kind: str, entity: str, number: int = 0, catalogue: Catalogue = CATALOGUE, **data: Any
) -> tuple[Message, Event]:
    """An event and the message that it came in; ``number`` makes it another one, and later."""
    body = {
        "specversion": "1.0",
        "id": f"{kind}-{entity}-{number}",
        "source": "/s",
        "type": f"things.{kind}",
        "subject": entity,
        "time": f"2026-01-01T00:00:{number:09.6f}Z",
        "data": data,
    }
    message = Message(subject=f"things.{entity}.{kind}", body=msgspec.json.encode(body))
    window = Window(catalogue, {}, past="unlimited")
    decoder = Decoder(catalogue, window, max_bytes=1 << 20)
    (found,) = decoder.decode([message])
    assert isinstance(found, Event), found
    return message, found


def batch(*things: tuple[Message, Event]) -> Any:
    return batch_of([message for message, _ in things], [found for _, found in things])
