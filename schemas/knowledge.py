"""Events about what agents know. The key is the item, the fact, or what an embedding is of.

These share one kind of id, so that an embedding finds its owner by the text that names it.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Count, Event, EventData, Json, Moment, Name, Share, Text
from penstock.schemas.identity import AgentId, KnowledgeId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, Computed, Field, Log, Ref, Upsert, event
from penstock.schemas.rows import FIRST, LAST
from penstock.schemas.vocabulary import EmbeddingOwner, LongText

SINGLE = 3.4e38
Component = Annotated[float, Meta(ge=-SINGLE, le=SINGLE)]
"""A number of a vector: models and pgvector have single precision."""

Vector = Annotated[list[Component], Meta(min_length=1, max_length=8192)]

ITEM_STATE = ("domain", "content", "source_agent_id", "confidence", "tags")
FACT = (
    "entity_type",
    "entity_id",
    "predicate",
    "object_value",
    "object_type",
    "source_agent_id",
    "confidence",
    "evidence",
    "valid_from",
    "valid_until",
)
EMBEDDING = ("owner_kind", "dim", "vector", "source_text", "text_hash")

ITEM_KEY = ("item_id",)
FACT_KEY = ("fact_id",)
IDENTITY = {"external_id": KEY_TEXT}
SOURCE_AGENT = Ref("source_agent_id", "agents.agent")


def valid_from_or_time(e: Event) -> Moment:
    """A fact that does not say since when holds since it was asserted. The ends of the calendar
    say nothing.
    """
    said: Moment | None = e.data.valid_from
    return said if said is not None and FIRST < said < LAST else e.time


def dimension(e: Event) -> Count:
    """How many numbers the vector has."""
    return len(e.data.vector)


@event(
    "knowledge.item_stored",
    key="item_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.item",
            key=ITEM_KEY,
            last=ITEM_STATE,
            once=("external_id",),
            values=IDENTITY,
        ),
        Upsert(
            table="knowledge.item",
            key=ITEM_KEY,
            last=("deleted_at",),
            guard="presence",
        ),
    ),
    refs=(SOURCE_AGENT,),
)
class KnowledgeItemStored(EventData, frozen=True, kw_only=True):
    """A piece of knowledge, stated as a whole; one that was retired is back.

    ``content`` is any document; it is found by the words of its ``title`` and ``description``.
    """

    item_id: KnowledgeId
    domain: Text
    content: Json
    source_agent_id: AgentId | None = None
    confidence: Share | None = None
    tags: Annotated[list[Text], Meta(max_length=1000)] | None = None


@event(
    "knowledge.item_retired",
    key="item_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.item",
            key=ITEM_KEY,
            last=("deleted_at",),
            guard="presence",
            once=("external_id",),
            values={**IDENTITY, "deleted_at": OCCURRED_AT},
        ),
    ),
)
class KnowledgeItemRetired(EventData, frozen=True, kw_only=True):
    """A piece of knowledge is no longer used; its row stays."""

    item_id: KnowledgeId
    reason: LongText | None = None


@event(
    "knowledge.fact_asserted",
    key="fact_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.fact",
            key=FACT_KEY,
            last=FACT,
            once=("external_id",),
            values={**IDENTITY, "valid_from": Computed(valid_from_or_time)},
        ),
    ),
    refs=(SOURCE_AGENT,),
)
class FactAsserted(EventData, frozen=True, kw_only=True):
    """Something holds of an entity: ``predicate`` of it is ``object_value``.

    It holds from ``valid_from``, or else from the time of the event, until ``valid_until``, or
    until the same agent's next fact about the same predicate of the entity begins.
    """

    fact_id: KnowledgeId
    entity_type: Name
    entity_id: Name
    predicate: Name
    object_value: Json
    object_type: Text
    source_agent_id: AgentId | None = None
    confidence: Share | None = None
    evidence: Json = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None


@event(
    "knowledge.fact_retracted",
    key="fact_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.fact",
            key=FACT_KEY,
            min=("retracted_from",),
            once=("external_id",),
            values={**IDENTITY, "retracted_from": Field("valid_until")},
        ),
    ),
)
class FactRetracted(EventData, frozen=True, kw_only=True):
    """A fact holds no more from ``valid_until`` on; at or before its beginning, it never held."""

    fact_id: KnowledgeId
    valid_until: Moment
    reason: LongText | None = None


@event(
    "knowledge.embedded",
    key="owner_id",
    history=Log(
        "knowledge",
        data_limit=2048,
        keep=("owner_kind", "model", "model_version", "text_hash"),
    ),
    states=(
        Upsert(
            table="knowledge.embedding",
            key=("owner_id", "model", "model_version"),
            last=EMBEDDING,
            values={"dim": Computed(dimension)},
        ),
    ),
)
class KnowledgeEmbedded(EventData, frozen=True, kw_only=True):
    """What a model makes of an item or a fact: numbers that are near where the meaning is alike.

    ``text_hash`` is how the producer tells whether the text has changed since.
    """

    owner_id: KnowledgeId
    owner_kind: EmbeddingOwner
    model: Name
    vector: Vector
    model_version: Text = ""
    source_text: LongText | None = None
    text_hash: Text | None = None


@event("knowledge.transferred", key="item_id", history=Log("knowledge"))
class KnowledgeTransferred(EventData, frozen=True, kw_only=True):
    """An agent passed a piece of knowledge on to another one, or failed to."""

    item_id: KnowledgeId
    source_agent_id: AgentId
    target_agent_id: AgentId
    method: Text
    success: bool
    error: LongText | None = None
