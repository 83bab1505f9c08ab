"""Events about agents. The key, and so the subject's second token, is the agent."""

from typing import Annotated, ClassVar

from msgspec import Meta

from penstock.schemas.event import Big, Count, EventData, Json, Moment, Name, Share, Text
from penstock.schemas.identity import AgentId, CheckpointId, ConnectionId, InstanceId, ProjectId
from penstock.schemas.mapping import (
    CORR,
    ITEM,
    KEY_TEXT,
    OCCURRED_AT,
    OCCURRED_DAY,
    Field,
    History,
    Hydrate,
    Log,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.vocabulary import (
    AgentDependencyKind,
    AgentStatus,
    AgentType,
    CognitivePattern,
    InstanceStatus,
    LongText,
    OutputKind,
)

Load = Annotated[float, Meta(ge=0.0)]
"""How busy an agent is; 1 is one unit of work at full time, more is a queue."""

Part = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Port = Annotated[int, Meta(ge=1, le=65535)]

PROFILE = (
    "name",
    "agent_type",
    "known_as",
    "software_version",
    "parent_agent_id",
    "project_id",
    "cognitive_pattern",
    "learning_rate",
    "performance_score",
    "configuration",
    "metadata",
)
SKILL = ("proficiency", "experience", "cap_version", "parameters", "enabled")
INSTANCE = (
    "host",
    "port",
    "process_id",
    "status",
    "started_at",
    "stopped_at",
    "resources",
    "error_count",
    "restart_count",
)
CONNECTION = ("host", "port", "database", "pool_size", "max_connections", "is_active")
STATE = ("value", "checksum", "expires_at", "deleted_at")
CHECKPOINT = ("checkpoint_id", "name", "trigger", "snapshot", "kv_revision")

AGENT = ("agent_id",)
IDENTITY = {"external_id": KEY_TEXT}
NAMES = {**IDENTITY, "known_as": Field("external_id")}
CAPABILITY = ("agent_id", "name")
DEPENDENCY = ("agent_id", "depends_on")
DEPENDENCY_STATE = ("kind", "deleted_at")
STATE_OF = ("agent_id", "state_key")

OF_AGENT = Ref("agent_id", "agents.agent")
PARENT = Ref("parent_agent_id", "agents.agent")
NEEDED = Ref("depends_on", "agents.agent")
STATUS_KEY = (Hydrate("agents.kv_status", AGENT),)
SIGN_OF_LIFE = (Hydrate("agents.kv_status", AGENT, lazy=True),)
STATE_KEY = (Hydrate("agents.kv_state", STATE_OF),)
ALL_KEYS = (*STATUS_KEY, Hydrate("agents.kv_state", AGENT))


class Profile(EventData, frozen=True, kw_only=True):
    """What an agent says about itself, always as a whole."""

    agent_id: AgentId
    name: Text
    agent_type: AgentType
    external_id: Text | None = None
    software_version: Text | None = None
    parent_agent_id: AgentId | None = None
    project_id: ProjectId | None = None
    cognitive_pattern: CognitivePattern | None = None
    learning_rate: Share | None = None
    performance_score: Share | None = None
    configuration: Json = None
    metadata: Json = None


@event(
    "agents.registered",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.agent",
            key=AGENT,
            last=PROFILE,
            guard="profile",
            first=("created_by",),
            max=("registered_at",),
            once=("external_id",),
            values={**NAMES, "registered_at": OCCURRED_AT},
        ),
        Upsert(
            table="agents.capability",
            key=CAPABILITY,
            each="capabilities",
            last=("deleted_at",),
            guard="presence",
            values={"name": ITEM},
        ),
    ),
    refs=(PARENT, OF_AGENT),
    kv=ALL_KEYS,
)
class AgentRegistered(Profile, frozen=True, kw_only=True):
    """An agent introduced itself; one that was retired is back."""

    capabilities: Annotated[list[Name], Meta(max_length=1000)] | None = None
    created_by: Text | None = None


@event(
    "agents.updated",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.agent",
            key=AGENT,
            last=PROFILE,
            guard="profile",
            once=("external_id",),
            values=NAMES,
        ),
    ),
    refs=(PARENT,),
    kv=STATUS_KEY,
)
class AgentUpdated(Profile, frozen=True, kw_only=True):
    """An agent's profile changed; it is stated as a whole."""


@event(
    "agents.status_changed",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.agent",
            key=AGENT,
            last=("status",),
            guard="status",
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    kv=STATUS_KEY,
)
class AgentStatusChanged(EventData, frozen=True, kw_only=True):
    """An agent entered another status."""

    agent_id: AgentId
    status: AgentStatus
    previous: AgentStatus | None = None
    reason: LongText | None = None
    triggered_by: Text | None = None


@event(
    "agents.heartbeat",
    key="agent_id",
    history=History("agents.heartbeat", ("agent_id", "instance_id", "status", "load", "metrics")),
    states=(
        Upsert(
            table="agents.agent",
            key=AGENT,
            max=("last_heartbeat",),
            once=("external_id",),
            values={**IDENTITY, "last_heartbeat": OCCURRED_AT},
        ),
    ),
    kv=SIGN_OF_LIFE,
)
class AgentHeartbeat(EventData, frozen=True, kw_only=True):
    """An agent is alive."""

    agent_id: AgentId
    instance_id: InstanceId | None = None
    status: AgentStatus | None = None
    load: Load | None = None
    metrics: Annotated[dict[Text, float], Meta(max_length=1000)] | None = None


@event(
    "agents.activity",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.agent",
            key=AGENT,
            max=("last_active",),
            once=("external_id",),
            values={**IDENTITY, "last_active": OCCURRED_AT},
        ),
        Upsert(
            table="merit.active_day",
            key=("agent_id", "streak_type", "day"),
            min=("first_at",),
            values={"streak_type": "activity", "day": OCCURRED_DAY, "first_at": OCCURRED_AT},
        ),
    ),
    refs=(Ref("agent_id", "agents.agent"),),
    kv=STATUS_KEY,
)
class AgentActivity(EventData, frozen=True, kw_only=True):
    """An agent did something worth remembering."""

    agent_id: AgentId
    activity_type: Text
    details: Json = None


@event(
    "agents.instance_changed",
    key="agent_id",
    history=Log("agents"),
    states=(Upsert(table="agents.instance", key=("agent_id", "instance_id"), last=INSTANCE),),
    refs=(OF_AGENT,),
)
class AgentInstanceChanged(EventData, frozen=True, kw_only=True):
    """A running process of an agent started, stopped or changed."""

    agent_id: AgentId
    instance_id: InstanceId
    host: Text
    status: InstanceStatus
    port: Port | None = None
    process_id: Big | None = None
    started_at: Moment | None = None
    stopped_at: Moment | None = None
    resources: Json = None
    error_count: Count | None = None
    restart_count: Count | None = None


@event(
    "agents.connection_set",
    key="agent_id",
    history=Log("agents"),
    states=(Upsert(table="agents.connection", key=("agent_id", "connection_id"), last=CONNECTION),),
    refs=(OF_AGENT,),
)
class AgentConnectionSet(EventData, frozen=True, kw_only=True):
    """Where an agent reaches a database; never with a password."""

    agent_id: AgentId
    connection_id: ConnectionId
    host: Text
    port: Port
    database: Text
    pool_size: Count
    max_connections: Count
    is_active: bool


@event(
    "agents.capability_set",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(table="agents.capability", key=CAPABILITY, last=SKILL),
        Upsert(
            table="agents.capability",
            key=CAPABILITY,
            last=("deleted_at",),
            guard="presence",
        ),
    ),
    refs=(OF_AGENT,),
)
class AgentCapabilitySet(EventData, frozen=True, kw_only=True):
    """An agent can do something, and how well."""

    agent_id: AgentId
    name: Name
    proficiency: Share | None = None
    experience: Big | None = None
    cap_version: Text | None = None
    parameters: Json = None
    enabled: bool = True


@event(
    "agents.capability_removed",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.capability",
            key=CAPABILITY,
            last=("deleted_at",),
            guard="presence",
            values={"deleted_at": OCCURRED_AT},
        ),
    ),
    refs=(OF_AGENT,),
)
class AgentCapabilityRemoved(EventData, frozen=True, kw_only=True):
    """An agent can no longer do something."""

    agent_id: AgentId
    name: Name


@event(
    "agents.dependency_set",
    key="agent_id",
    history=Log("agents"),
    states=(Upsert(table="agents.dependency", key=DEPENDENCY, last=DEPENDENCY_STATE),),
    refs=(OF_AGENT, NEEDED),
)
class AgentDependencySet(EventData, frozen=True, kw_only=True):
    """An agent needs another one."""

    agent_id: AgentId
    depends_on: AgentId
    kind: AgentDependencyKind = AgentDependencyKind.REQUIRED


@event(
    "agents.dependency_removed",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.dependency",
            key=DEPENDENCY,
            last=DEPENDENCY_STATE,
            values={"deleted_at": OCCURRED_AT},
        ),
    ),
    refs=(OF_AGENT, NEEDED),
)
class AgentDependencyRemoved(EventData, frozen=True, kw_only=True):
    """An agent no longer needs another one."""

    agent_id: AgentId
    depends_on: AgentId


@event(
    "agents.state_set",
    key="agent_id",
    history=Log("agents", data_limit=8192, keep=("state_key", "checksum", "expires_at")),
    states=(Upsert(table="agents.state", key=STATE_OF, last=STATE),),
    kv=STATE_KEY,
)
class AgentStateSet(EventData, frozen=True, kw_only=True):
    """An agent stored a value under a key of its own; needs a sequence."""

    requires_sequence: ClassVar[bool] = True

    agent_id: AgentId
    state_key: Name
    value: Json
    expires_at: Moment | None = None
    checksum: Text | None = None


@event(
    "agents.state_deleted",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.state",
            key=STATE_OF,
            last=STATE,
            values={"deleted_at": OCCURRED_AT},
        ),
    ),
    kv=STATE_KEY,
)
class AgentStateDeleted(EventData, frozen=True, kw_only=True):
    """An agent dropped one of its keys; needs a sequence."""

    requires_sequence: ClassVar[bool] = True

    agent_id: AgentId
    state_key: Name


@event(
    "agents.checkpointed",
    key="agent_id",
    history=History(
        "agents.checkpoint",
        ("agent_id", "part", *CHECKPOINT, "corr"),
        values={"corr": CORR},
    ),
    states=(
        Upsert(
            table="agents.last_checkpoint",
            key=("agent_id", "part"),
            last=(*CHECKPOINT, "taken_at"),
            values={"taken_at": OCCURRED_AT},
        ),
    ),
    refs=(OF_AGENT,),
)
class AgentCheckpointed(EventData, frozen=True, kw_only=True):
    """An agent's state was saved as a whole, to go back to.

    One that is too large for an event comes in several, numbered by ``part``.
    """

    agent_id: AgentId
    checkpoint_id: CheckpointId
    part: Part = 1
    name: Text | None = None
    trigger: Text | None = None
    snapshot: Json = None
    kv_revision: Big | None = None


@event(
    "agents.output",
    key="agent_id",
    history=History(
        "agents.output",
        ("agent_id", "output_type", "content", "metadata", "corr"),
        values={"corr": CORR},
    ),
)
class AgentOutput(EventData, frozen=True, kw_only=True):
    """An agent wrote a line of status, log or metric."""

    agent_id: AgentId
    output_type: OutputKind
    content: LongText
    metadata: Json = None


@event(
    "agents.retired",
    key="agent_id",
    history=Log("agents"),
    states=(
        Upsert(
            table="agents.agent",
            key=AGENT,
            last=("status",),
            guard="status",
            max=("deleted_at",),
            once=("external_id",),
            values={
                **IDENTITY,
                "status": AgentStatus.TERMINATED,
                "deleted_at": OCCURRED_AT,
            },
        ),
    ),
    kv=ALL_KEYS,
)
class AgentRetired(EventData, frozen=True, kw_only=True):
    """An agent is gone; its keys leave the bucket, its rows stay."""

    agent_id: AgentId
    reason: LongText | None = None
