"""Points for every task that was done, achievements on the way, honours and rewards."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.merit import (
    AchievementDefined,
    AchievementProgressed,
    AchievementUnlocked,
    AgentInducted,
    PointsAwarded,
    ResourcePoolDefined,
    RewardAllocated,
    RewardRevoked,
)
from penstock.schemas.vocabulary import AchievementCategory, AllocationKind, TaskStatus
from penstock.worker.seed.company import Company, Task
from penstock.worker.seed.said import Said

_BASE = {"implement": 50, "review": 20, "test": 30, "research": 40, "document": 25, "deploy": 15}
_FIRST, _TENTH = "first-task", "ten-tasks"
_ACHIEVEMENTS = (
    (_FIRST, "The first task", AchievementCategory.TASK_COMPLETION, 10, 1),
    (_TENTH, "Ten tasks", AchievementCategory.CONSISTENCY, 100, 10),
)


def tell(company: Company) -> Iterator[Said]:
    """What there is to earn, then what each agent earned by its tasks, then what it was given."""
    begun = company.since + timedelta(minutes=12)
    for achievement, name, category, points, tasks in _ACHIEVEMENTS:
        defined = AchievementDefined(
            achievement_id=achievement,
            name=name,
            category=category,
            requirements={"tasks": tasks},
            points_reward=points,
            rarity="common",
        )
        yield Said(begun, defined, "ada")
    for agent in company.agents:
        own = [task for task in company.tasks if task.agent is agent]
        done = [task for task in own if task.status is TaskStatus.COMPLETED]
        yield from _earned(sorted(done, key=lambda task: task.ended))
        for task in own:
            if task.status is TaskStatus.FAILED:
                yield _points(task, -5, "task_failed", 1.0)
    yield from _given(company)


def _earned(done: list[Task]) -> Iterator[Said]:
    for number, task in enumerate(done, 1):
        yield _points(task, _BASE[task.kind], "task_completed", round((task.quality or 0) / 50, 2))
        after, agent = task.ended + timedelta(seconds=2), task.agent.id
        for achievement, _, _, reward, needed in _ACHIEVEMENTS:
            if number < needed:
                share = {"tasks": number, "of": needed}
                going = AchievementProgressed(
                    achievement_id=achievement, agent_id=agent, progress=share
                )
                yield Said(after, going, agent)
            elif number == needed:
                got = AchievementUnlocked(achievement_id=achievement, agent_id=agent)
                yield Said(after, got, agent)
                yield _points(task, reward, "achievement", 1.0)


def _points(task: Task, base: int, action: str, multiplier: float) -> Said:
    awarded = PointsAwarded(
        agent_id=task.agent.id,
        category=task.kind,
        action=action,
        base_points=base,
        multiplier=multiplier,
        task_id=task.id,
    )
    return Said(task.ended + timedelta(seconds=1), awarded, "ada", task.project)


def _given(company: Company) -> Iterator[Said]:
    begun = company.since + timedelta(days=company.days / 2)
    pool = ResourcePoolDefined(resource_type="gpu_hours", capacity=200, rules={"per_agent": 40})
    yield Said(company.since + timedelta(minutes=13), pool, "ada")
    for number, agent in enumerate(("grace", "linus", "katherine")):
        allocated = RewardAllocated(
            allocation_id=company.name("allocation", number),
            agent_id=agent,
            kind=AllocationKind.RESOURCE,
            resource_type="gpu_hours",
            amount=20 * (number + 1),
            reason="for the work of the week",
        )
        yield Said(begun, allocated, "ada")
    taken = RewardRevoked(allocation_id=company.name("allocation", 1), reason="not used")
    yield Said(begun + timedelta(hours=20), taken, "ada")
    honoured = AgentInducted(
        agent_id="grace", tier="gold", title="Keeper of the parser", citation="nothing broke"
    )
    yield Said(company.until - timedelta(hours=4), honoured, "ada")
