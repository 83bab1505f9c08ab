"""The words of the domain: enumerations, and the open vocabularies that only have a shape.

Each enumeration is a domain over text of the same values in the database's schema ``vocab``; a test
compares the two. Events may use older or foreign spellings (`Vocabulary.aliases`); rows never do.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

AgentType = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=255)]
"""An open vocabulary: team-leader, worker, coordinator, engineer and whatever else is needed."""

Title = Annotated[str, Meta(max_length=1024)]
"""One line that a person reads."""

LongText = Annotated[str, Meta(max_length=1024 * 1024)]
"""Prose, logs, stack traces: up to 1 MiB characters."""


class Vocabulary(StrEnum):
    """A closed list of words."""

    @classmethod
    def aliases(cls) -> Mapping[str, str]:
        """Other spellings that events may use, and the value that each stands for."""
        return {}

    @classmethod
    def _missing_(cls, value: object) -> "Vocabulary | None":
        known = cls.aliases().get(value) if isinstance(value, str) else None
        return None if known is None else cls(known)


class AgentStatus(Vocabulary):
    """What an agent is doing."""

    UNKNOWN = "unknown"
    INITIALIZING = "initializing"
    ACTIVE = "active"
    IDLE = "idle"
    BUSY = "busy"
    LEARNING = "learning"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    MAINTENANCE = "maintenance"
    ERROR = "error"
    OFFLINE = "offline"
    TERMINATED = "terminated"

    @classmethod
    def aliases(cls) -> Mapping[str, str]:
        return {"inactive": "offline", "stopped": "offline"}


class CognitivePattern(Vocabulary):
    """How an agent goes about a problem."""

    CONVERGENT = "convergent"
    DIVERGENT = "divergent"
    LATERAL = "lateral"
    SYSTEMS = "systems"
    CRITICAL = "critical"
    ADAPTIVE = "adaptive"


class InstanceStatus(Vocabulary):
    """The life of one running process of an agent."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ERROR = "error"
    CRASHED = "crashed"


class AgentDependencyKind(Vocabulary):
    """How much one agent needs another."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    PREFERRED = "preferred"


class OutputKind(Vocabulary):
    """What an agent's output is about."""

    STATUS = "status"
    LOG = "log"
    METRIC = "metric"


class TaskStatus(Vocabulary):
    """The life of a task, and of one attempt at it."""

    PENDING = "pending"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    PAUSED = "paused"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def aliases(cls) -> Mapping[str, str]:
        return {"in_progress": "running", "retry": "retrying"}


class TaskDependencyKind(Vocabulary):
    """What of the other task must be there first."""

    COMPLETION = "completion"
    START = "start"
    DATA = "data"
    RESOURCE = "resource"

    @classmethod
    def aliases(cls) -> Mapping[str, str]:
        return {"blocks": "completion", "finish_to_start": "completion"}


class TddPhase(Vocabulary):
    """The step of test-driven work that a task is in."""

    RED = "red"
    GREEN = "green"
    REFACTOR = "refactor"


class MessageKind(Vocabulary):
    """What a message wants from its recipient."""

    COMMAND = "command"
    QUERY = "query"
    RESPONSE = "response"
    NOTIFICATION = "notification"
    HEARTBEAT = "heartbeat"
    ERROR = "error"
    EVENT = "event"


class MessageStatus(Vocabulary):
    """How far a message has come, in the order in which a later word wins."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    DELIVERED = "delivered"
    PROCESSED = "processed"


class RecipientKind(Vocabulary):
    """What a message is addressed to."""

    AGENT = "agent"
    TYPE = "type"
    BROADCAST = "broadcast"
    CHANNEL = "channel"
    USER = "user"
    WEBHOOK = "webhook"


class ChannelKind(Vocabulary):
    """How a channel passes messages on."""

    DIRECT = "direct"
    BROADCAST = "broadcast"
    TOPIC = "topic"
    QUEUE = "queue"
    SYSTEM = "system"
    MONITORING = "monitoring"
    WEBHOOK = "webhook"

    @classmethod
    def aliases(cls) -> Mapping[str, str]:
        return {"agent_to_agent": "direct"}


class QueueDiscipline(Vocabulary):
    """Which message of a queue comes next."""

    FIFO = "fifo"
    PRIORITY = "priority"
    DELAYED = "delayed"
    RETRY = "retry"


class VotingAlgorithm(Vocabulary):
    """How ballots become a result."""

    SIMPLE_MAJORITY = "simple_majority"
    CONFIDENCE_WEIGHTED = "confidence_weighted"
    QUADRATIC = "quadratic"
    CONSENSUS = "consensus"
    RANKED_CHOICE = "ranked_choice"


class VoteSessionStatus(Vocabulary):
    """Whether ballots are still taken."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class AchievementCategory(Vocabulary):
    """What an achievement is for."""

    TASK_COMPLETION = "task_completion"
    SPEED = "speed"
    QUALITY = "quality"
    COLLABORATION = "collaboration"
    INNOVATION = "innovation"
    CONSISTENCY = "consistency"
    SPECIAL = "special"
    LEGENDARY = "legendary"


class BattleMode(Vocabulary):
    """How agents compete."""

    HEAD_TO_HEAD = "head_to_head"
    SPEED_RACE = "speed_race"
    QUALITY_SHOWDOWN = "quality_showdown"
    TEAM_TOURNAMENT = "team_tournament"
    KING_OF_HILL = "king_of_hill"
    BOSS_RAID = "boss_raid"
    TIME_ATTACK = "time_attack"
    SURVIVAL = "survival"


class BattleStatus(Vocabulary):
    """Where a battle stands."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class AllocationKind(Vocabulary):
    """What an agent is given."""

    RESOURCE = "resource"
    PERMISSION = "permission"
    PRIORITY = "priority"


class TrustOutcome(Vocabulary):
    """What an agent has experienced with another."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


class ViolationKind(Vocabulary):
    """Which rule an agent has broken."""

    LOW_QUALITY = "low_quality"
    TIMEOUT = "timeout"
    PROTOCOL_VIOLATION = "protocol_violation"
    RESOURCE_ABUSE = "resource_abuse"
    COLLABORATION_FAILURE = "collaboration_failure"
    DATA_CORRUPTION = "data_corruption"


class ViolationStatus(Vocabulary):
    """What became of a violation."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"


class AppealStatus(Vocabulary):
    """Where an appeal stands."""

    PENDING = "pending"
    UNDER_REVIEW = "under_review"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"


class WorkflowStatus(Vocabulary):
    """Whether a workflow may be run."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


class IdeaTarget(Vocabulary):
    """What a vote in a brainstorming session is about."""

    IDEA = "idea"
    COMBINATION = "combination"


class PairingStatus(Vocabulary):
    """How a mentor and a mentee stand."""

    ACTIVE = "active"
    COMPLETED = "completed"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class EmbeddingOwner(Vocabulary):
    """What an embedding was made of."""

    ITEM = "item"
    FACT = "fact"


class TransferMode(Vocabulary):
    """How knowledge of one domain is taken to another."""

    ADAPTIVE = "adaptive"
    DIRECT = "direct"
    GRADUAL = "gradual"


class AccountStatus(Vocabulary):
    """Whether an account may be used."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class AccountTier(Vocabulary):
    """What an account or an organization has subscribed to."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class MemberRole(Vocabulary):
    """What a member of an organization or a project is there."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    DEVELOPER = "developer"
    VIEWER = "viewer"


class SessionKind(Vocabulary):
    """What a session is for."""

    INTERACTIVE = "interactive"
    API = "api"
    SYSTEM = "system"
    BACKGROUND = "background"


class Environment(Vocabulary):
    """Where a setting holds."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    TESTING = "testing"


class TestStatus(Vocabulary):
    """How a test went."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class MetricKind(Vocabulary):
    """What a sample is a reading of."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    TIMER = "timer"


class MetricScope(Vocabulary):
    """What a metric is about."""

    AGENT = "agent"
    SYSTEM = "system"
    KNOWLEDGE = "knowledge"
    PATTERN = "pattern"
    API = "api"
    WORKER = "worker"


class Severity(Vocabulary):
    """How bad an error is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class HealthStatus(Vocabulary):
    """How well something is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class RecommendationStatus(Vocabulary):
    """What became of a recommended index."""

    PENDING = "pending"
    IMPLEMENTED = "implemented"
    REJECTED = "rejected"
    OBSOLETE = "obsolete"


class BackupKind(Vocabulary):
    """What a backup holds: the server's files, a dump, a dump of the schema, or streams too."""

    BASE = "base"
    LOGICAL = "logical"
    SCHEMA = "schema"
    CROSS_SYSTEM = "cross_system"


class RecoveryKind(Vocabulary):
    """What is tried out: all of it, up to a moment, a part, or with streams and buckets."""

    FULL_RESTORE = "full_restore"
    PITR = "pitr"
    PARTIAL_RESTORE = "partial_restore"
    CROSS_SYSTEM = "cross_system"


class RecoveryStatus(Vocabulary):
    """How far trying a recovery out is."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"


DOMAINS: Mapping[str, type[Vocabulary]] = {
    "agent_status": AgentStatus,
    "cognitive_pattern": CognitivePattern,
    "instance_status": InstanceStatus,
    "agent_dependency_kind": AgentDependencyKind,
    "output_kind": OutputKind,
    "task_status": TaskStatus,
    "task_dependency_kind": TaskDependencyKind,
    "tdd_phase": TddPhase,
    "message_kind": MessageKind,
    "message_status": MessageStatus,
    "recipient_kind": RecipientKind,
    "channel_kind": ChannelKind,
    "queue_discipline": QueueDiscipline,
    "voting_algorithm": VotingAlgorithm,
    "vote_session_status": VoteSessionStatus,
    "achievement_category": AchievementCategory,
    "battle_mode": BattleMode,
    "battle_status": BattleStatus,
    "allocation_kind": AllocationKind,
    "violation_kind": ViolationKind,
    "violation_status": ViolationStatus,
    "appeal_status": AppealStatus,
    "workflow_status": WorkflowStatus,
    "idea_target": IdeaTarget,
    "pairing_status": PairingStatus,
    "embedding_owner": EmbeddingOwner,
    "transfer_mode": TransferMode,
    "account_status": AccountStatus,
    "account_tier": AccountTier,
    "member_role": MemberRole,
    "session_kind": SessionKind,
    "environment": Environment,
    "test_status": TestStatus,
    "metric_kind": MetricKind,
    "metric_scope": MetricScope,
    "severity": Severity,
    "health_status": HealthStatus,
    "recommendation_status": RecommendationStatus,
    "backup_kind": BackupKind,
    "recovery_kind": RecoveryKind,
    "recovery_status": RecoveryStatus,
}
"""The database's domain of each enumeration."""
