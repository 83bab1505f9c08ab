"""Rules that were broken, what came of it, an appeal, and a retraining."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.penalties import (
    AppealDecided,
    AppealFiled,
    RetrainingAssigned,
    RetrainingProgressed,
    ViolationRecorded,
    ViolationReviewed,
)
from penstock.schemas.vocabulary import (
    AppealStatus,
    TaskStatus,
    ViolationKind,
    ViolationStatus,
)
from penstock.worker.seed.company import Company, Task
from penstock.worker.seed.said import Said

_RECORDED = 6
_HOUR = timedelta(hours=1)


def tell(company: Company) -> Iterator[Said]:
    """A violation for some of the tasks that failed; the last one is still open."""
    failed = [task for task in company.tasks if task.status is TaskStatus.FAILED]
    past = sorted((t for t in failed if t.ended < company.until), key=lambda task: task.ended)
    for number, task in enumerate(past[-_RECORDED:]):
        violation = company.name("violation", number)
        recorded = ViolationRecorded(
            violation_id=violation,
            agent_id=task.agent.id,
            kind=(ViolationKind.LOW_QUALITY, ViolationKind.TIMEOUT)[number % 2],
            severity=1 + number % 5,
            description="the tests did not pass, and nobody was told",
            penalty_points=20,
            task_id=task.id,
        )
        yield Said(task.ended + timedelta(minutes=5), recorded, "edsger", task.project)
        if number < _RECORDED - 1:
            yield from _judged(violation, number, task)
    yield from _retrained(company)


def _judged(violation: str, number: int, task: Task) -> Iterator[Said]:
    confirmed = number % 3 != 1
    status = ViolationStatus.CONFIRMED if confirmed else ViolationStatus.DISMISSED
    reviewed = ViolationReviewed(
        violation_id=violation,
        status=status,
        reviewed_by="ada",
        penalty_points=20 if confirmed else 0,
    )
    yield Said(task.ended + _HOUR, reviewed, "ada")
    if number == 0:
        appeal, agent = f"{violation}-appeal", task.agent.id
        filed = AppealFiled(
            appeal_id=appeal, violation_id=violation, agent_id=agent, grounds="the network was down"
        )
        yield Said(task.ended + 1.5 * _HOUR, filed, agent)
        decided = AppealDecided(
            appeal_id=appeal, status=AppealStatus.APPROVED, reviewed_by="ada", adjusted_penalty=5
        )
        yield Said(task.ended + 2 * _HOUR, decided, "ada")


def _retrained(company: Company) -> Iterator[Said]:
    program, begun = company.name("retraining", 0), company.since + 20 * _HOUR
    assigned = RetrainingAssigned(program_id=program, agent_id="dennis", program_type="testing")
    yield Said(begun, assigned, "ada")
    progressed = RetrainingProgressed(
        program_id=program,
        status=TaskStatus.RUNNING,
        progress=60.0,
        pre_assessment={"passed": 4, "of": 10},
    )
    yield Said(begun + timedelta(days=company.days / 2), progressed, "margaret")
