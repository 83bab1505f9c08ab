"""Events about workflows and each time they run. The key is the workflow."""

from penstock.schemas.event import Count, EventData, Json, Moment, Text
from penstock.schemas.identity import AgentId, ExecutionId, ProjectId, WorkflowId
from penstock.schemas.mapping import KEY_TEXT, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import LongText, TaskStatus, WorkflowStatus

DEFINITION = (
    "name",
    "kind",
    "description",
    "definition",
    "dependencies",
    "status",
    "def_version",
    "project_id",
)
START = ("agent_id", "number", "context", "started_by")
PROGRESS = ("workflow_id", "status", "variables", "completed_at", "result", "error")

EXECUTION = ("execution_id", "started_at")


@event(
    "workflows.defined",
    key="workflow_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="workflows.workflow",
            key=("workflow_id",),
            first=("created_by",),
            last=DEFINITION,
            once=("external_id",),
            values={"external_id": KEY_TEXT},
        ),
    ),
    refs=(Ref("project_id", "identity.project"),),
)
class WorkflowDefined(EventData, frozen=True, kw_only=True):
    """A workflow was set up or changed; it is stated as a whole.

    ``definition`` has the steps and ``dependencies`` which step needs which, both in the form of
    whoever runs them. ``def_version`` is the author's number of the definition, ``kind`` a word of
    the author's.
    """

    workflow_id: WorkflowId
    name: Text
    definition: Json
    kind: Text | None = None
    description: LongText | None = None
    dependencies: Json = None
    status: WorkflowStatus = WorkflowStatus.DRAFT
    def_version: Count = 1
    project_id: ProjectId | None = None
    created_by: Text | None = None


@event(
    "workflows.execution_started",
    key="workflow_id",
    history=Log("tasks"),
    states=(
        Upsert(
            table="workflows.execution",
            key=EXECUTION,
            first=START,
            last=PROGRESS,
            values={"status": TaskStatus.RUNNING},
        ),
    ),
)
class WorkflowExecutionStarted(EventData, frozen=True, kw_only=True):
    """A workflow began to run; later events about it repeat ``execution_id`` and ``started_at``.

    ``number`` counts the runs of this workflow, ``context`` is what the run begins with,
    ``variables`` what its steps share.
    """

    workflow_id: WorkflowId
    execution_id: ExecutionId
    started_at: Moment
    agent_id: AgentId | None = None
    number: Count | None = None
    context: Json = None
    variables: Json = None
    started_by: Text | None = None


@event(
    "workflows.execution_updated",
    key="workflow_id",
    history=Log("tasks"),
    states=(Upsert(table="workflows.execution", key=EXECUTION, last=PROGRESS),),
)
class WorkflowExecutionUpdated(EventData, frozen=True, kw_only=True):
    """A run of a workflow moved on or ended; its progress is stated as a whole."""

    workflow_id: WorkflowId
    execution_id: ExecutionId
    started_at: Moment
    status: TaskStatus
    variables: Json = None
    completed_at: Moment | None = None
    result: Json = None
    error: LongText | None = None
