"""What real agents publish: the proportions, order and sizes of recorded runs, with other words.

Counted in 740 events of 13 runs of a software engineering agent (``agent-runs.ndjson``): 13
`agents.registered`, 13 `tasks.created`, 161 `tasks.updated`, 135 `agents.heartbeat`, 270
`messages.sent`, 135 `agents.state_set`, 13 `agents.status_changed`. Every run begins with the first
three of these, ends with an update of the task and a change of status, and has in between as many
steps as `_STEPS` says. A step is a heartbeat, an action with a thought, an observation, the agent's
state and an update of the task.

The lengths of texts are in characters: those of each kind were sorted and cut into 15 equal parts,
and each length is the mean of a part. So the totals are those of the recording, whose longest
observation had 24,498.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

_STEPS = (4, 5, 5, 5, 7, 9, 11, 12, 12, 14, 14, 16, 21)
_ACTIONS = (6, 10, 16, 18, 20, 23, 33, 43, 50, 56, 68, 95, 108, 150, 548)
_THOUGHTS = (2, 30, 50, 62, 77, 102, 146, 170, 209, 225, 264, 325, 386, 483, 818)
_OBSERVATIONS = (0, 6, 20, 76, 115, 178, 282, 394, 460, 568, 891, 1061, 1565, 2662, 8114)
_STATES = (69, 104, 109, 110, 112, 117, 120, 123, 136, 146, 178, 182, 188, 234, 256)

WORDS = (
    *("the", "file", "test", "line", "error", "in", "to", "run", "open", "found", "matches"),
    *("for", "def", "return", "self", "import", "python", "src", "module", "function", "value"),
    *("path", "directory", "command", "output", "expected", "assert", "result", "fix", "issue"),
)


class Said(NamedTuple):
    """An event before it has an id and a time. ``task`` is the task of the run."""

    kind: str
    subject: str
    data: dict[str, object]
    task: str
    sequence: int = 0


def run(chosen: random.Random, agent: str, task: str) -> Iterator[Said]:
    """One agent solves one issue."""
    name = f"swe-agent {agent[-6:]}__sweagenttestrepo-1c2844"
    yield Said(
        "agents.registered",
        agent,
        {"name": name, "agent_type": "engineer", "configuration": {"run": _text(chosen, 84)}},
        task,
    )
    yield Said(
        "tasks.created",
        task,
        {
            "task_type": "swe",
            "title": name,
            "priority": 4,
            "created_by": agent,
            "payload": {"environment": "main"},
        },
        task,
    )
    yield _updated(agent, task, 1, status="running", started_at="2026-11-01T00:00:00.500000+00:00")
    steps = chosen.choice(_STEPS)
    for step in range(1, steps + 1):
        yield from _step(chosen, agent, task, step)
    outcome = {"exit_status": "submitted", "model_stats": {"tokens_sent": 7141, "api_calls": steps}}
    yield _updated(agent, task, steps + 2, status="completed", result=outcome)
    changed: dict[str, object] = {"status": "idle", "previous": "busy", "reason": "run ended"}
    yield Said("agents.status_changed", agent, changed, task)


def _step(chosen: random.Random, agent: str, task: str, step: int) -> Iterator[Said]:
    environment = f"{agent[:-6]}{task[-6:]}"
    action = {"action": _draw(chosen, _ACTIONS), "thought": _draw(chosen, _THOUGHTS)}
    observation = {"observation": _draw(chosen, _OBSERVATIONS)}
    state = {"step": step, "state": _draw(chosen, _STATES)}
    yield Said("agents.heartbeat", agent, {"status": "busy", "load": 0.2}, task)
    yield _message(chosen, task, agent, environment, kind="command", subject="action", **action)
    yield _message(
        chosen, task, environment, agent, kind="response", subject="observation", **observation
    )
    yield Said("agents.state_set", agent, {"state_key": "cursor", "value": state}, task, step)
    yield _updated(agent, task, step + 1, status="running", result={"steps": step})


def _updated(agent: str, task: str, sequence: int, **stated: object) -> Said:
    data = {"priority": 4, "assigned_to": agent, **stated}
    return Said("tasks.updated", task, data, task, sequence)


def _message(
    chosen: random.Random,
    task: str,
    sender: str,
    recipient: str,
    *,
    kind: str,
    subject: str,
    **payload: str,
) -> Said:
    data: dict[str, object] = {
        "message_id": str(UUID(int=chosen.getrandbits(128), version=4)),
        "from_id": sender,
        "to_kind": "agent",
        "to_id": recipient,
        "kind": kind,
        "subject": subject,
        "priority": 4,
        "payload": payload,
    }
    return Said("messages.sent", recipient, data, task)


def _draw(chosen: random.Random, lengths: tuple[int, ...]) -> str:
    return _text(chosen, chosen.choice(lengths))


def _text(chosen: random.Random, length: int) -> str:
    """A piece of one long text. Like the recording, it has quotes, and a line break about every 53
    characters.
    """
    begin = chosen.randrange(len(_PROSE) - length)
    return _PROSE[begin : begin + length]


def _prose(chosen: random.Random) -> str:
    quotes = ("", '"')
    lines = (" ".join(chosen.choices(WORDS, k=9)) + quotes[n % 2] for n in range(2_000))
    return "\n".join(lines)


_PROSE = _prose(random.Random(1))
