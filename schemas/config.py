"""Events about settings of agents, and feature flags. The key is the agent, or the flag.

What holds for all agents belongs to the agent ``global``. Settings that are no secrets are mirrored
into the bucket AGENT_CONFIG.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Count, EventData, Json, Name, Text
from penstock.schemas.identity import AgentId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, AuditLog, Hydrate, Upsert, event
from penstock.schemas.rows import is_given
from penstock.schemas.vocabulary import Environment, LongText

Rollout = Annotated[int, Meta(ge=0, le=100)]
"""Percent of those who get a feature."""

ENTRY = (
    "value",
    "ciphertext",
    "key_name",
    "key_version",
    "is_secret",
    "description",
    "deleted_at",
)
KEY = ("agent_id", "environment", "config_key")
IDENTITY = {"external_id": KEY_TEXT}
BUCKET = (Hydrate("config.kv", KEY, bucket="AGENT_CONFIG"),)


@event(
    "config.set",
    key="agent_id",
    history=AuditLog("config"),
    states=(
        Upsert(
            table="config.entry",
            key=KEY,
            last=ENTRY,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    kv=BUCKET,
)
class ConfigSet(EventData, frozen=True, kw_only=True):
    """A setting of an agent, or of all (``global``), has a value.

    A secret has no ``value``: whoever sets it encrypts it, and states the ``ciphertext`` with the
    name and version of the key. It is never in the bucket.
    """

    agent_id: AgentId
    config_key: Name
    environment: Environment = Environment.PRODUCTION
    value: Json = None
    ciphertext: LongText | None = None
    key_name: Text | None = None
    key_version: Count | None = None
    is_secret: bool = False
    description: LongText | None = None
    reason: LongText | None = None

    def __post_init__(self) -> None:
        if self.is_secret and is_given(self.value):
            raise ValueError(
                f"the secret {self.config_key!r} has a value; encrypt it, and send it as ciphertext"
            )


@event(
    "config.deleted",
    key="agent_id",
    history=AuditLog("config"),
    states=(
        Upsert(
            table="config.entry",
            key=KEY,
            last=ENTRY,
            once=("external_id",),
            values={**IDENTITY, "deleted_at": OCCURRED_AT},
        ),
    ),
    kv=BUCKET,
)
class ConfigDeleted(EventData, frozen=True, kw_only=True):
    """A setting is set no more."""

    agent_id: AgentId
    config_key: Name
    environment: Environment = Environment.PRODUCTION
    reason: LongText | None = None


@event(
    "config.flag_set",
    key="name",
    history=AuditLog("feature_flag"),
    states=(
        Upsert(
            table="config.feature_flag",
            key=("name",),
            last=("description", "enabled", "conditions", "rollout"),
        ),
    ),
)
class FeatureFlagSet(EventData, frozen=True, kw_only=True):
    """A feature was switched on or off, for ``rollout`` percent of those it is for.

    ``conditions`` say for whom, in the form of whoever asks.
    """

    name: Name
    enabled: bool
    rollout: Rollout = 100
    conditions: Json = None
    description: LongText | None = None
