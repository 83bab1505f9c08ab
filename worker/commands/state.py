"""``penstock state``: look at an agent's state, keep it as a checkpoint, and go back to one."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import click

from penstock.schemas.agents import AgentCheckpointed
from penstock.schemas.checkpoints import Value, snapshots
from penstock.worker.commands import state_shown as shown
from penstock.worker.commands.sending import Draft, arrived, drafted, send
from penstock.worker.commands.state_changes import (
    Fate,
    Step,
    check_named,
    differences,
    fate_of,
    live,
    steps,
)
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.agent_state import AgentState, AgentStates, agent_states
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings

_PARTS = 4
"""Each part of a checkpoint takes about this share of max_event_bytes."""


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[AgentStates]:
    """Raises MigrationError, SinkUnavailable."""
    await check_schema(settings, "state")
    async with agent_states(settings) as states:
        yield states


async def get(settings: Settings, agent: str, key: str | None, *, as_json: bool) -> int:
    """Print what the agent holds now, or the value of one key. Exit code."""
    async with _opened(settings) as states, states.looking(agent) as state:
        held = live(await state.known_keys())
    if key is not None and key not in held:
        known = ", ".join(held) or "none"
        raise PenstockError(f"agent {agent!r} has no key {key!r}; it has {known}")
    if key is None or as_json:
        asked = held if key is None else {key: held[key]}
        click.echo(shown.held(state, asked, as_json=as_json), nl=as_json)
    else:
        click.echo(bytes(held[key].value).decode())
    return 0


async def history(
    settings: Settings, agent: str, key: str | None, limit: int, *, as_json: bool
) -> int:
    """Print the last changes, the newest first. Exit code."""
    async with _opened(settings) as states, states.looking(agent) as state:
        await state.known_keys()
        found = await state.history(key, limit)
    click.echo(shown.history(state, found, as_json=as_json), nl=as_json)
    return 0


async def checkpoints(settings: Settings, agent: str, *, as_json: bool) -> int:
    """Print the agent's checkpoints, the newest first. Exit code."""
    async with _opened(settings) as states, states.looking(agent) as state:
        found = await state.checkpoints()
    click.echo(shown.checkpoints(state, found, as_json=as_json), nl=as_json)
    return 0


async def checkpoint(
    settings: Settings, agent: str, name: str | None, wait: float, *, dry_run: bool, as_json: bool
) -> int:
    """Keep all that the agent holds at one moment, and wait until it is stored.

    Exit code: 1 if it was published and is not stored in time.
    """
    async with _opened(settings) as states:
        async with states.looking(agent) as state:
            held = live(await state.known_keys())
        checkpoint_id = uuid7()
        drafts = _parts(settings, state, checkpoint_id, name, held)
        stored = None
        if not dry_run:
            await send(settings, drafts)
            stored = await arrived(lambda: _complete(states, agent, checkpoint_id), wait)
    said = shown.checkpointed(state, checkpoint_id, held, drafts, stored, as_json=as_json)
    click.echo(said, nl=as_json)
    return int(stored is False)


def _parts(
    settings: Settings,
    state: AgentState,
    checkpoint_id: str,
    name: str | None,
    held: dict[str, Value],
) -> list[Draft]:
    return [
        drafted(
            settings,
            f"keys {', '.join(part.keys)}",
            AgentCheckpointed(
                agent_id=state.agent,
                checkpoint_id=checkpoint_id,
                name=name,
                part=part.part,
                trigger="penstock state checkpoint",
                snapshot=part,
            ),
        )
        for part in snapshots(held, settings.max_event_bytes // _PARTS)
    ]


async def _complete(states: AgentStates, agent: str, checkpoint_id: str) -> bool:
    async with states.looking(agent) as state:
        return await state.is_complete(checkpoint_id)


async def diff(
    settings: Settings, agent: str, before: str, after: str | None, *, as_json: bool
) -> int:
    """Print what changed since a checkpoint, until another one or until now.

    Exit code: 1 if anything did.
    """
    async with _opened(settings) as states, states.looking(agent) as state:
        _, first = await state.checkpoint(before)
        second = live(await state.keys()) if after is None else (await state.checkpoint(after))[1]
    found = list(differences(first, second))
    click.echo(shown.differences(state, found, as_json=as_json), nl=as_json)
    return int(bool(found))


async def restore(
    settings: Settings,
    agent: str,
    named: str,
    keys: Collection[str],
    wait: float,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Publish what makes the agent's state that of a checkpoint, and wait until it is stored.

    Exit code: 1 if something is not, or the agent itself changed a key meanwhile.
    """
    async with _opened(settings) as states:
        async with states.looking(agent) as state:
            _, saved = await state.checkpoint(named)
            now = await state.keys()
        check_named(keys, saved, live(now))
        plan = steps(saved, now, keys)
        fates: dict[str, Fate] = {}
        if plan and not dry_run:
            if not yes:
                click.echo(shown.steps(plan), nl=False, err=True)
                click.confirm(f"Change these keys of agent {agent!r}?", abort=True, err=True)
            fates = await _restored(settings, states, agent, plan, wait)
    click.echo(shown.restored(state, plan, fates, as_json=as_json), nl=as_json)
    return int(any(fate is not Fate.STORED for fate in fates.values()))


async def _restored(
    settings: Settings, states: AgentStates, agent: str, plan: Sequence[Step], wait: float
) -> dict[str, Fate]:
    """Publish the steps, and see what becomes of each."""
    drafts = {
        step.key: drafted(settings, f"key {step.key!r}", step.event(agent), step.sequence)
        for step in plan
    }
    await send(settings, list(drafts.values()))
    fates = dict.fromkeys(drafts, Fate.WAITING)

    async def settled() -> bool:
        async with states.looking(agent) as state:
            now = await state.keys()
        for step in plan:
            fates[step.key] = fate_of(step, drafts[step.key].event_id, now.get(step.key))
        return Fate.WAITING not in fates.values()

    await arrived(settled, wait)
    return fates
