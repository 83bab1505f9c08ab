"""Reading agents' state so that nobody is shown less than they know to be written."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Any

from penstock.schemas.agents import AgentStateDeleted, AgentStateSet
from penstock.schemas.event import EventData
from penstock.schemas.identity import entity_uuid
from penstock.worker.errors import PenstockError
from penstock.worker.sending.ports import StateReader
from penstock.worker.sending.state import StateMissing, StateValue

NO_DEFAULT: Any = object()
"""For who wants StateMissing where there is nothing."""

_REMEMBERED = 10_000
_CATCH_UP_SECONDS = 2.0
"""Longest time that a replica of the bucket may be behind its leader."""

_POLL_SECONDS = 1.0
_SHORTEST, _LONGEST = 0.01, 0.2


class StateNotReached(PenstockError):
    """The key did not get the version that was waited for in time. The text says what it has."""


class Written:
    """The versions that receipts have told of, by agent and key; of the latest keys only."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[int, bool]] = OrderedDict()

    def note(self, event: EventData, sequence: int) -> None:
        """Remember that ``event`` is stored."""
        if isinstance(event, AgentStateSet | AgentStateDeleted):
            place = (entity_uuid("agent", event.agent_id), event.state_key)
            if sequence >= self._known.get(place, (0, False))[0]:
                self._known[place] = sequence, isinstance(event, AgentStateDeleted)
                self._known.move_to_end(place)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def shows(self, place: tuple[str, str], found: StateValue | None) -> bool:
        """Whether ``found`` is at least as far as what is known of that key."""
        version, deleted = self._known.get(place, (0, True))
        return deleted if found is None else found.version >= version

    def forget(self, place: tuple[str, str]) -> None:
        """Expect nothing of that key any more: somebody else has taken it away."""
        self._known.pop(place, None)


async def read(
    states: StateReader, written: Written, agent_id: str, key: str, default: Any = NO_DEFAULT
) -> StateValue:
    """The value under ``key``, at least as new as ``written`` knows; a replica that is behind gets
    time to catch up. Raises StateMissing unless there is a ``default``.
    """
    place = (entity_uuid("agent", agent_id), key)
    pause, waited = _SHORTEST, 0.0
    while True:
        found, missing = await _found(states, agent_id, key)
        if written.shows(place, found):
            break
        if waited > _CATCH_UP_SECONDS:
            written.forget(place)
            break
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(2 * pause, _LONGEST)
    if found is not None:
        return found
    if default is NO_DEFAULT and missing is not None:
        raise missing
    return StateValue(value=default)


async def _found(
    states: StateReader, agent_id: str, key: str | None
) -> tuple[StateValue | None, StateMissing | None]:
    try:
        return await states.read(agent_id, key), None
    except StateMissing as missing:
        return None, missing


async def watch(states: StateReader, agent_id: str, key: str) -> AsyncGenerator[StateValue | None]:
    """What the key holds now, and again after each change; None while it is not there.

    Of changes that follow each other closely the last is shown. Raises StateStoreUnavailable.
    """
    async with states.changes(agent_id, key) as changed:
        last, _ = await _found(states, agent_id, key)
        yield last
        while True:
            changed.clear()
            found = await _next(states, agent_id, key, changed, last)
            if found != last:
                last = found
                yield found


async def _next(
    states: StateReader, agent_id: str, key: str, changed: asyncio.Event, last: StateValue | None
) -> StateValue | None:
    """What the key holds after a change was heard of, or after a while; a change may be heard of
    before it can be read.
    """
    try:
        async with asyncio.timeout(_POLL_SECONDS):
            await changed.wait()
    except TimeoutError:
        return (await _found(states, agent_id, key))[0]
    pause = _SHORTEST
    while pause < _LONGEST:
        found, _ = await _found(states, agent_id, key)
        if found != last:
            return found
        await asyncio.sleep(pause)
        pause *= 2
    return last


async def wait_for(
    states: StateReader, agent_id: str, key: str, version: int, timeout: float | None
) -> StateValue:
    """The value once its version is at least ``version``. Raises StateNotReached."""
    found: StateValue | None = None
    try:
        async with asyncio.timeout(timeout):
            async for found in watch(states, agent_id, key):
                if found is not None and found.version >= version:
                    return found
    except TimeoutError:
        pass
    held = "is not there" if found is None else f"has version {found.version}"
    raise StateNotReached(
        f"{key!r} of agent {agent_id!r} {held}, not {version} or more, after {timeout:g} s"
    )
