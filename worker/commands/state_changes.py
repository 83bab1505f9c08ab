"""What differs between two states of an agent, and what has to be published to go back. Pure."""

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum

import msgspec

from penstock.schemas.agents import AgentStateDeleted, AgentStateSet
from penstock.schemas.checkpoints import Value
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.agent_state import Kept


class Kind(StrEnum):
    """How a key differs."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Fate(StrEnum):
    """What became of a step: it is stored, the agent changed the key later, or nothing yet."""

    STORED = "stored"
    OVERTAKEN = "overtaken"
    WAITING = "waiting"


class Difference(msgspec.Struct, frozen=True):
    """A key that differs; None where it is not there."""

    key: str
    before: Value | None
    after: Value | None

    @property
    def kind(self) -> Kind:
        """What happened to the key on the way from before to after."""
        if self.before is None:
            return Kind.ADDED
        return Kind.REMOVED if self.after is None else Kind.CHANGED


class Step(msgspec.Struct, frozen=True):
    """One event to publish: that ``key`` holds ``value``, or nothing if that is None. ``sequence``
    is greater than any that the key had.
    """

    key: str
    value: Value | None
    sequence: int

    def event(self, agent: str) -> AgentStateSet | AgentStateDeleted:
        """As the agent itself would say it."""
        if self.value is None:
            return AgentStateDeleted(agent_id=agent, state_key=self.key)
        return AgentStateSet(
            agent_id=agent,
            state_key=self.key,
            value=self.value.value,
            expires_at=self.value.expires_at,
            checksum=self.value.checksum,
        )


def live(keys: Mapping[str, Kept]) -> dict[str, Value]:
    """What the agent holds: without the keys that are deleted."""
    return {key: kept.value for key, kept in keys.items() if not kept.deleted}


def differences(before: Mapping[str, Value], after: Mapping[str, Value]) -> Iterator[Difference]:
    """Every key that does not say the same in both, in order."""
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        if one is None or other is None or not one.same_as(other):
            yield Difference(key, one, other)


def check_named(keys: Collection[str], *states: Mapping[str, Value]) -> None:
    """Raise PenstockError for a key that is in none of the states."""
    known = {key for state in states for key in state}
    if unknown := [key for key in keys if key not in known]:
        raise PenstockError(
            f"neither the checkpoint nor the agent has the key {unknown[0]!r}; there are "
            f"{', '.join(sorted(known)) or 'none'}"
        )


def steps(
    saved: Mapping[str, Value], now: Mapping[str, Kept], keys: Collection[str] = ()
) -> list[Step]:
    """What makes the state ``now`` what was ``saved``; with ``keys`` only these."""
    return [
        Step(found.key, found.after, _above(found, now.get(found.key)))
        for found in differences(live(now), saved)
        if not keys or found.key in keys
    ]


def fate_of(step: Step, event_id: str, row: Kept | None) -> Fate:
    """What the row of its key says about a step that was published as the event ``event_id``."""
    if row is not None and row.event_id == event_id:
        return Fate.STORED
    if row is not None and row.value.version >= step.sequence:
        return Fate.OVERTAKEN
    return Fate.WAITING


def _above(found: Difference, row: Kept | None) -> int:
    """Above the row, deleted or not, and above what was saved: rows may have been lost since."""
    held = 0 if row is None else row.value.version
    return max(held, 0 if found.after is None else found.after.version) + 1
