"""Identity: the rules that turn any text into a key, the same way everywhere.

CloudEvents lets a producer choose any text as an id; PostgreSQL keys here are UUIDs. A UUID is
used as it is, any other text becomes a UUID version 5 (RFC 9562, section 5.5) in a namespace of its
kind, so the same text gives the same key in every process, at every replay.
"""

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated
from uuid import UUID, uuid5

from msgspec import Meta

_PENSTOCK = UUID("0d6c5bd4-6c59-5c0e-9a2b-7f7a1c4b8d10")
canonical = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII
).fullmatch
"""Matches a UUID as PostgreSQL writes it."""

_UUID = b"00000000-0000-0000-0000-000000000000"
_SHAPE = bytes(0x30 if byte in b"0123456789abcdef" else byte for byte in range(256))
"""Makes a zero of every digit that a canonical UUID may have."""

_plain_token = re.compile(r"[A-Za-z0-9_-]+", re.ASCII).fullmatch
_unsafe = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
_escaped = re.compile(r"=([0-9A-F]{2})")


def _id(kind: str) -> Meta:
    return Meta(min_length=1, max_length=255, extra={"id": kind})


AgentId = Annotated[str, _id("agent")]
TaskId = Annotated[str, _id("task")]
ExecutionId = Annotated[str, _id("execution")]
InstanceId = Annotated[str, _id("instance")]
ConnectionId = Annotated[str, _id("connection")]
CheckpointId = Annotated[str, _id("checkpoint")]
MessageId = Annotated[str, _id("message")]
ChannelId = Annotated[str, _id("channel")]
VoteSessionId = Annotated[str, _id("vote_session")]
ProjectId = Annotated[str, _id("project")]
AchievementId = Annotated[str, _id("achievement")]
BattleId = Annotated[str, _id("battle")]
AllocationId = Annotated[str, _id("allocation")]
ViolationId = Annotated[str, _id("violation")]
AppealId = Annotated[str, _id("appeal")]
RetrainingId = Annotated[str, _id("retraining")]
RunId = Annotated[str, _id("run")]
WorkflowId = Annotated[str, _id("workflow")]
BrainstormId = Annotated[str, _id("brainstorm")]
IdeaId = Annotated[str, _id("idea")]
PairingId = Annotated[str, _id("pairing")]
CurriculumId = Annotated[str, _id("curriculum")]
KnowledgeId = Annotated[str, _id("knowledge")]
PatternId = Annotated[str, _id("pattern")]
LearningId = Annotated[str, _id("learning")]
ConversationId = Annotated[str, _id("conversation")]
ThreadId = Annotated[str, _id("thread")]
TraceId = Annotated[str, _id("trace")]
OrganizationId = Annotated[str, _id("organization")]
AccountId = Annotated[str, _id("account")]
RoleId = Annotated[str, _id("role")]
GrantId = Annotated[str, _id("grant")]
ApiKeyId = Annotated[str, _id("api_key")]
RepositoryId = Annotated[str, _id("repository")]
SuiteId = Annotated[str, _id("suite")]
CoverageId = Annotated[str, _id("coverage")]
ErrorId = Annotated[str, _id("error")]
BackupId = Annotated[str, _id("backup")]
RecoveryTestId = Annotated[str, _id("recovery_test")]
AnyId = Annotated[str, _id("any")]
StoredId = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        max_length=36,
        extra={"id": "any"},
    ),
]
"""The id of an event as it is stored and read back; of another text nobody knows the source."""


@lru_cache(maxsize=64)
def _namespace(kind: str) -> UUID:
    return uuid5(_PENSTOCK, kind)


def _derived(kind: str, text: str) -> str:
    lowered = text.lower()
    if canonical(lowered):
        return lowered
    return str(uuid5(_namespace(kind), text))


@lru_cache(maxsize=65_536)
def entity_uuid(kind: str, text: str) -> str:
    """The key of an entity: ``text`` itself if it is a UUID, else a UUID5 of it within ``kind``.

    Returns the canonical lower-case form, whose order as text is PostgreSQL's order of uuids.
    """
    return _derived(kind, text)


def entity_uuids(kind: str, texts: Sequence[str]) -> Sequence[str]:
    """`entity_uuid` of each. UUIDs, of which most are never seen again, push none of the others out
    of its memory.
    """
    if texts and canonical(texts[0]) and all_canonical(texts):
        return texts
    return [entity_uuid(kind, text) for text in texts]


def all_canonical(texts: Sequence[str]) -> bool:
    """Whether each text is a UUID as PostgreSQL writes it."""
    lines = "\n".join(texts).encode()
    return lines.translate(_SHAPE) == b"\n".join([_UUID] * len(texts))


def key_texts(texts: Sequence[str]) -> Sequence[str | None]:
    """The text a key was made from, of each; None if the text is the key."""
    if len(_UUID) not in set(map(len, texts)):
        return texts
    if all_canonical(texts):
        return [None] * len(texts)
    return [None if canonical(text.lower()) else text for text in texts]


def event_uuid(source: str, event_id: str) -> str:
    """The key of an event. CloudEvents identity is source and id, so other text takes in both."""
    if canonical(event_id):
        return event_id
    lowered = event_id.lower()
    if canonical(lowered):
        return lowered
    return str(uuid5(_namespace("event"), f"{source}\n{event_id}"))


def escape(text: str) -> str:
    """One token of a subject or of a KV key: bytes outside ``[A-Za-z0-9_-]`` become ``=XX``."""
    if _plain_token(text):
        return text
    return _unsafe.sub(lambda match: "".join(f"={byte:02X}" for byte in match[0].encode()), text)


def carried(subject: str, event_type: str) -> str | None:
    """What was escaped into the bus subject of an event; None if it is no subject of that type."""
    domain, _, verb = event_type.partition(".")
    token = subject.removeprefix(f"{domain}.").removesuffix(f".{verb}")
    text = _escaped.sub(lambda match: chr(int(match[1], 16)), token)
    with contextlib.suppress(UnicodeError):
        text = text.encode("latin-1").decode()
        if text and subject == f"{domain}.{escape(text)}.{verb}":
            return text
    return None


STATUS_KEY = "_status"
"""The last token of the KV key that holds an agent's status."""


def kv_token(text: str) -> str:
    """One token of a KV key, as SQL's ``bus.kv_token`` makes it.

    Any text works: what a key may not hold is escaped, and so is a leading underscore, which keeps
    the names that begin with one for Penstock.
    """
    token = escape(text) or "="
    return f"=5F{token[1:]}" if token[0] == "_" else token


def kv_key(agent_uuid: str, state_key: str | None) -> str:
    """The KV key of an agent's state, or of its status if ``state_key`` is None."""
    return f"{agent_uuid}.{STATUS_KEY if state_key is None else kv_token(state_key)}"
