"""Events about how software is made: repositories as GitHub shows them, test runs and coverage.

Who mirrors GitHub sends the microseconds of its ``updated_at`` as ``sequence``, and the time of the
look as ``time``: so the newest state wins, however late an old one is looked at.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from penstock.schemas.event import Big, Count, EventData, Json, Moment, Name, Percent, Text
from penstock.schemas.identity import CoverageId, ProjectId, RepositoryId, SuiteId, TaskId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, Item, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import LongText, TestStatus

REPOSITORY = (
    "github_id",
    "project_id",
    "owner",
    "name",
    "full_name",
    "default_branch",
    "webhook_id",
    "permissions",
    "metadata",
)
ISSUE = (
    "github_id",
    "title",
    "body",
    "state",
    "labels",
    "assignees",
    "created_by",
    "opened_at",
    "source_updated_at",
    "closed_at",
)
PULL_REQUEST = (
    "github_id",
    "title",
    "body",
    "state",
    "head_ref",
    "base_ref",
    "draft",
    "merged",
    "mergeable",
    "labels",
    "reviewers",
    "created_by",
    "opened_at",
    "source_updated_at",
    "merged_at",
    "closed_at",
)
SUITE = (
    "project_id",
    "task_id",
    "name",
    "framework",
    "executed_at",
    "duration_ms",
    "total",
    "passed",
    "failed",
    "skipped",
)
SHARES = ("line_pct", "branch_pct", "function_pct", "statement_pct")
COVERAGE = ("project_id", "suite_id", "commit_sha", *SHARES, "data")

OF_REPOSITORY = ("repository_id", "number")
IDENTITY = {"external_id": KEY_TEXT}
SYNCED = {"synced_at": OCCURRED_AT}
OF_PROJECT = Ref("project_id", "identity.project")
IN_REPOSITORY = (Ref("repository_id", "sdlc.repository"),)


@event(
    "github.repository_synced",
    key="repository_id",
    history=Log("sdlc"),
    states=(
        Upsert(
            table="sdlc.repository",
            key=("repository_id",),
            last=REPOSITORY,
            max=("synced_at",),
            once=("external_id",),
            values={**IDENTITY, **SYNCED},
        ),
    ),
    refs=(OF_PROJECT,),
)
class RepositorySynced(EventData, frozen=True, kw_only=True):
    """A repository, as GitHub describes it now."""

    requires_sequence: ClassVar[bool] = True

    repository_id: RepositoryId
    github_id: Text
    owner: Text
    name: Text
    full_name: Text
    project_id: ProjectId | None = None
    default_branch: Text = "main"
    webhook_id: Text | None = None
    permissions: Json = None
    metadata: Json = None


@event(
    "github.issue_synced",
    key="repository_id",
    history=Log("sdlc"),
    states=(
        Upsert(
            table="sdlc.issue", key=OF_REPOSITORY, last=ISSUE, max=("synced_at",), values=SYNCED
        ),
    ),
    refs=IN_REPOSITORY,
)
class IssueSynced(EventData, frozen=True, kw_only=True):
    """An issue, as GitHub describes it now."""

    requires_sequence: ClassVar[bool] = True

    repository_id: RepositoryId
    number: Count
    github_id: Text
    title: LongText
    state: Text
    source_updated_at: Moment
    body: LongText | None = None
    labels: Json = None
    assignees: Json = None
    created_by: Text | None = None
    opened_at: Moment | None = None
    closed_at: Moment | None = None


@event(
    "github.pr_synced",
    key="repository_id",
    history=Log("sdlc"),
    states=(
        Upsert(
            table="sdlc.pull_request",
            key=OF_REPOSITORY,
            last=PULL_REQUEST,
            max=("synced_at",),
            values=SYNCED,
        ),
    ),
    refs=IN_REPOSITORY,
)
class PullRequestSynced(EventData, frozen=True, kw_only=True):
    """A pull request, as GitHub describes it now."""

    requires_sequence: ClassVar[bool] = True

    repository_id: RepositoryId
    number: Count
    github_id: Text
    title: LongText
    state: Text
    source_updated_at: Moment
    body: LongText | None = None
    head_ref: Text | None = None
    base_ref: Text | None = None
    draft: bool = False
    merged: bool = False
    mergeable: bool | None = None
    labels: Json = None
    reviewers: Json = None
    created_by: Text | None = None
    opened_at: Moment | None = None
    merged_at: Moment | None = None
    closed_at: Moment | None = None


@event(
    "tests.suite_finished",
    key="suite_id",
    history=Log("sdlc"),
    states=(
        Upsert(
            table="sdlc.test_suite",
            key=("suite_id",),
            last=SUITE,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=(Ref("task_id", "tasks.task"), OF_PROJECT),
)
class SuiteFinished(EventData, frozen=True, kw_only=True):
    """A test suite has run. The results of its tests travel apart from it, in any number of events;
    the totals are the runner's, whatever of them was reported.
    """

    suite_id: SuiteId
    name: Text
    executed_at: Moment
    duration_ms: Big
    total: Count
    passed: Count
    failed: Count
    skipped: Count = 0
    framework: Text | None = None
    project_id: ProjectId | None = None
    task_id: TaskId | None = None


class TestResult(Struct, frozen=True, kw_only=True):
    """How one test went; ``path`` is its file or its class."""

    name: Name
    status: TestStatus
    path: Text = ""
    duration_ms: Big | None = None
    error: LongText | None = None
    stack: LongText | None = None


@event(
    "tests.results_reported",
    key="suite_id",
    states=(
        Upsert(
            table="sdlc.test_result",
            key=("suite_id", "executed_at", "path", "name"),
            each="results",
            first=("status", "duration_ms", "error", "stack"),
            values={
                field: Item(field)
                for field in ("path", "name", "status", "duration_ms", "error", "stack")
            },
        ),
    ),
)
class ResultsReported(EventData, frozen=True, kw_only=True):
    """How tests of a run went, some or all of them; ``executed_at`` is that of the run.

    A test is told apart by ``path`` and ``name``. Reported again, its first result stays.
    """

    suite_id: SuiteId
    executed_at: Moment
    results: Annotated[list[TestResult], Meta(min_length=1, max_length=5000)]


@event(
    "tests.coverage_reported",
    key="coverage_id",
    history=Log("sdlc", data_limit=8192, keep=("project_id", "suite_id", "commit_sha", *SHARES)),
    states=(
        Upsert(
            table="sdlc.coverage",
            key=("coverage_id",),
            last=COVERAGE,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=(Ref("suite_id", "sdlc.test_suite"), OF_PROJECT),
)
class CoverageReported(EventData, frozen=True, kw_only=True):
    """How much of the code the tests reach, in percent; ``data`` is the report of the tool."""

    coverage_id: CoverageId
    project_id: ProjectId
    suite_id: SuiteId | None = None
    commit_sha: Text | None = None
    line_pct: Percent | None = None
    branch_pct: Percent | None = None
    function_pct: Percent | None = None
    statement_pct: Percent | None = None
    data: Json = None
