"""Events about tasks. The key, and so the subject's second token, is the task."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Big, Count, EventData, Json, Moment, Percent, Priority, Text
from penstock.schemas.identity import AgentId, ExecutionId, ProjectId, TaskId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import LongText, TaskDependencyKind, TaskStatus, TddPhase, Title

NORMAL = 4

ORDER = (
    "task_type",
    "title",
    "description",
    "project_id",
    "created_by",
    "parent_task_id",
    "workflow_execution_id",
    "payload",
    "configuration",
    "tags",
    "scheduled_at",
    "deadline",
    "expires_at",
    "max_duration_ms",
    "max_retries",
    "github_issue_number",
    "github_pr_number",
)
"""What was asked for. The first event to say so wins."""

PROGRESS = (
    "status",
    "priority",
    "assigned_to",
    "completed_at",
    "retry_count",
    "result",
    "error",
    "quality_score",
    "tdd_phase",
)
"""What became of it. The last event to say so wins."""

ATTEMPT = ("agent_id", "attempt")
OUTCOME = (
    "task_id",
    "status",
    "completed_at",
    "result",
    "error",
    "cpu_ms",
    "mem_peak_mb",
    "io_ops",
)

TASK = ("task_id",)
IDENTITY = {"external_id": KEY_TEXT}
DEPENDENCY = ("task_id", "depends_on")
DEPENDENCY_STATE = ("kind", "deleted_at")
BOTH_TASKS = (Ref("task_id", "tasks.task"), Ref("depends_on", "tasks.task"))
EXECUTION = ("execution_id", "started_at")


@event(
    "tasks.created",
    key="task_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="tasks.task",
            key=TASK,
            first=ORDER,
            last=PROGRESS,
            once=("external_id",),
            values={**IDENTITY, "retry_count": 0},
        ),
    ),
    refs=(Ref("parent_task_id", "tasks.task"),),
)
class TaskCreated(EventData, frozen=True, kw_only=True):
    """A task was put up."""

    task_id: TaskId
    task_type: Text
    title: Title | None = None
    description: LongText | None = None
    project_id: ProjectId | None = None
    created_by: Text | None = None
    parent_task_id: TaskId | None = None
    workflow_execution_id: ExecutionId | None = None
    payload: Json = None
    configuration: Json = None
    tags: Annotated[list[Text], Meta(max_length=1000)] | None = None
    priority: Priority = NORMAL
    status: TaskStatus = TaskStatus.PENDING
    scheduled_at: Moment | None = None
    deadline: Moment | None = None
    expires_at: Moment | None = None
    max_duration_ms: Big | None = None
    max_retries: Count | None = None
    github_issue_number: Count | None = None
    github_pr_number: Count | None = None


@event(
    "tasks.updated",
    key="task_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="tasks.task",
            key=TASK,
            last=PROGRESS,
            min=("started_at",),
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=(Ref("assigned_to", "agents.agent"),),
)
class TaskUpdated(EventData, frozen=True, kw_only=True):
    """A task moved on; its progress is stated as a whole."""

    task_id: TaskId
    status: TaskStatus
    priority: Priority = NORMAL
    assigned_to: AgentId | None = None
    started_at: Moment | None = None
    completed_at: Moment | None = None
    retry_count: Count = 0
    result: Json = None
    error: LongText | None = None
    quality_score: Percent | None = None
    tdd_phase: TddPhase | None = None


@event(
    "tasks.dependency_set",
    key="task_id",
    history=Log("tasks"),
    states=(Upsert(table="tasks.dependency", key=DEPENDENCY, last=DEPENDENCY_STATE),),
    refs=BOTH_TASKS,
)
class TaskDependencySet(EventData, frozen=True, kw_only=True):
    """A task waits for another one."""

    task_id: TaskId
    depends_on: TaskId
    kind: TaskDependencyKind = TaskDependencyKind.COMPLETION


@event(
    "tasks.dependency_removed",
    key="task_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="tasks.dependency",
            key=DEPENDENCY,
            last=DEPENDENCY_STATE,
            values={"deleted_at": OCCURRED_AT},
        ),
    ),
    refs=BOTH_TASKS,
)
class TaskDependencyRemoved(EventData, frozen=True, kw_only=True):
    """A task no longer waits for another one."""

    task_id: TaskId
    depends_on: TaskId


@event(
    "tasks.execution_started",
    key="task_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="tasks.execution",
            key=EXECUTION,
            first=ATTEMPT,
            last=OUTCOME,
            values={"status": TaskStatus.RUNNING},
        ),
    ),
)
class TaskExecutionStarted(EventData, frozen=True, kw_only=True):
    """An agent began an attempt at a task."""

    task_id: TaskId
    execution_id: ExecutionId
    started_at: Moment
    agent_id: AgentId
    attempt: Count


@event(
    "tasks.execution_finished",
    key="task_id",
    history=Log("tasks"),
    states=(Upsert(table="tasks.execution", key=EXECUTION, last=OUTCOME),),
)
class TaskExecutionFinished(EventData, frozen=True, kw_only=True):
    """An attempt at a task ended, well or not."""

    task_id: TaskId
    execution_id: ExecutionId
    started_at: Moment
    status: TaskStatus
    completed_at: Moment
    result: Json = None
    error: LongText | None = None
    cpu_ms: Big | None = None
    mem_peak_mb: Big | None = None
    io_ops: Big | None = None


@event(
    "tasks.deleted",
    key="task_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="tasks.task",
            key=TASK,
            max=("deleted_at",),
            once=("external_id",),
            values={**IDENTITY, "deleted_at": OCCURRED_AT},
        ),
    ),
)
class TaskDeleted(EventData, frozen=True, kw_only=True):
    """A task was withdrawn; its row stays."""

    task_id: TaskId
    reason: LongText | None = None
