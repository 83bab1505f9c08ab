"""What `penstock state` prints: a table for people, or one JSON object."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.checkpoints import Value
from penstock.worker.commands.columns import columns
from penstock.worker.commands.sending import Draft
from penstock.worker.commands.state_changes import Difference, Fate, Step
from penstock.worker.postgres.agent_state import AgentState, Change, Checkpoint

_WIDTH = 60
"""Characters of a value in a table."""


def held(state: AgentState, keys: Mapping[str, Value], *, as_json: bool) -> str:
    """What an agent holds."""
    if as_json:
        listed = [{"key": key, **_value(value)} for key, value in keys.items()]
        return _json(state, keys=listed)
    rows = [
        (key, str(v.version), _time(v.changed_at), _time(v.expires_at), _short(v.value))
        for key, v in keys.items()
    ]
    return (
        columns(("key", "sequence", "changed", "expires", "value"), rows) if rows else "no keys\n"
    )


def history(state: AgentState, changes: Sequence[Change], *, as_json: bool) -> str:
    """The changes of an agent's keys."""
    if as_json:
        return _json(state, changes=changes)
    rows = [
        (_time(c.time), c.key, c.what, str(c.sequence), c.actor or c.source, _said(c))
        for c in changes
    ]
    titles = ("time", "key", "what", "sequence", "by", "value")
    return columns(titles, rows) if rows else "no changes\n"


def checkpoints(state: AgentState, found: Sequence[Checkpoint], *, as_json: bool) -> str:
    """The checkpoints of an agent."""
    if as_json:
        return _json(state, checkpoints=found)
    rows = [(_time(c.time), c.checkpoint_id, c.name or "-", c.trigger or "-") for c in found]
    titles = ("time", "checkpoint", "name", "made by")
    return columns(titles, rows) if rows else "no checkpoints\n"


def checkpointed(
    state: AgentState,
    checkpoint_id: str,
    keys: Mapping[str, Value],
    parts: Sequence[Draft],
    stored: bool | None,  # noqa: FBT001  (a result)
    *,
    as_json: bool,
) -> str:
    """A checkpoint that was made; ``stored`` is None if it would have been."""
    size = sum(len(part.payload) for part in parts)
    if as_json:
        named = None if stored is None else checkpoint_id
        return _json(state, checkpoint_id=named, keys=len(keys), bytes=size, stored=stored)
    what = f"{len(keys)} keys, {size} bytes, {len(parts)} events"
    if stored is None:
        return f"would keep {what}\n"
    if stored:
        return f"checkpoint {checkpoint_id}: {what}\n"
    return f"checkpoint {checkpoint_id}: {what}; published, but {_NOT_STORED}\n"


def differences(state: AgentState, found: Sequence[Difference], *, as_json: bool) -> str:
    """What differs between two states."""
    if as_json:
        listed = [
            {
                "key": d.key,
                "what": d.kind,
                "before": d.before and _value(d.before),
                "after": d.after and _value(d.after),
            }
            for d in found
        ]
        return _json(state, differences=listed)
    rows = [(d.kind, d.key, _held(d.before), _held(d.after)) for d in found]
    return columns(("what", "key", "before", "after"), rows) if rows else "no differences\n"


def steps(plan: Sequence[Step]) -> str:
    """What a restore is about to do."""
    rows = [(_verb(s), s.key, str(s.sequence), _held(s.value)) for s in plan]
    return columns(("what", "key", "sequence", "value"), rows)


def restored(
    state: AgentState, plan: Sequence[Step], fates: Mapping[str, Fate], *, as_json: bool
) -> str:
    """What a restore did; without ``fates`` what it would do."""
    if as_json:
        listed = [
            {"key": s.key, "what": _verb(s), "sequence": s.sequence, "fate": fates.get(s.key)}
            for s in plan
        ]
        return _json(state, keys=listed)
    if not plan:
        return "nothing to do: the state is that of the checkpoint\n"
    if not fates:
        return steps(plan) + f"would change {len(plan)} keys\n"
    lines = [f"{key!r}: {_REMEDIES[fate]}\n" for key, fate in fates.items() if fate in _REMEDIES]
    stored = sum(fate is Fate.STORED for fate in fates.values())
    return "".join(lines) + f"{stored} of {len(plan)} keys restored\n"


_NOT_STORED = "not stored yet: see whether a worker runs (`penstock status`), and dead letters"
_REMEDIES = {
    Fate.OVERTAKEN: "the agent has changed it meanwhile, which counts; stop it and restore again",
    Fate.WAITING: f"published, but {_NOT_STORED}",
}


def _json(state: AgentState, **found: Any) -> str:
    document = {"agent": state.agent, "agent_id": state.agent_id, **found}
    return msgspec.json.encode(document).decode()


def _value(value: Value) -> dict[str, Any]:
    return {
        "sequence": value.version,
        "changed_at": value.changed_at,
        "expires_at": value.expires_at,
        "checksum": value.checksum,
        "value": value.value,
    }


def _verb(step: Step) -> str:
    return "delete" if step.value is None else "set"


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _held(value: Value | None) -> str:
    return "-" if value is None else _short(value.value)


def _said(change: Change) -> str:
    if change.omitted:
        return f"{change.omitted} bytes, too large for the history"
    return "-" if change.value is None else _short(change.value)


def _short(value: Raw) -> str:
    text = bytes(value).decode()
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
