"""Credentials that are renewed on the disk while an agent or a worker runs."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from penstock import NatsOptions, Publisher, PublishFailed, SourceUnavailable
from penstock.schemas import AgentHeartbeat
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.nats.client import close
from penstock.worker.nats.connection import connect
from tests.support.identities import Identity, Operator, identity
from tests.support.waiting import until


class Agent(NamedTuple):
    """What it is known by, and where that stands."""

    operator: Operator
    path: Path
    options: NatsOptions


HEARTBEAT = AgentHeartbeat(agent_id="a-7")


def users(*known: Identity) -> str:
    """Who may connect."""
    names = ", ".join(f'{{ nkey: "{user.public}" }}' for user in known)
    return f"authorization {{ users: [ {names} ] }}\n"


def allow(server: EmbeddedNats, before: str, after: str) -> None:
    """Change the configuration; the server ends connections of users who are known no more."""
    config = server.folder / "nats.conf"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    os.kill(server.pid, signal.SIGHUP)


async def add_stream(options: NatsOptions) -> None:
    client = await connect(options, name="test")
    await client.jetstream().add_stream(name="AGENT_STATE", subjects=["agents.>"])
    await close(client)


async def test_an_nkey_that_was_renewed(tmp_path: Path, free_port: int) -> None:
    """nats-py would sign with the new seed under the old name."""
    old, new, path = identity(), identity(), tmp_path / "agent.nk"
    path.write_text(old.seed)
    async with EmbeddedNats(port=free_port, extra_config=users(old)) as server:
        options = NatsOptions(url=server.url, nkey=str(path))
        await add_stream(options)
        async with Publisher(options, source="/a") as bus:
            await bus.publish(HEARTBEAT)
            path.write_text(f"{new.seed}\n")
            allow(server, users(old), users(new))
            confirmed = await asyncio.wait_for(bus.publish(HEARTBEAT), 15)
            assert confirmed.sequence == 2


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Whose token expires in a few seconds, and who is connected before that."""
    operator, path = Operator(), tmp_path / "agent.creds"
    async with EmbeddedNats(extra_config=operator.configuration()) as server:
        path.write_text(operator.credentials())
        options = NatsOptions(url=server.url, credentials=str(path))
        await add_stream(options)
        path.write_text(operator.credentials(seconds=3))
        yield Agent(operator, path, options)


@pytest.mark.parametrize("meanwhile", ["the old one", "half a file", "no file"])
async def test_a_token_that_expired_and_is_renewed_later(
    agent: Agent, caplog: pytest.LogCaptureFixture, meanwhile: str
) -> None:
    """Until then the Publisher waits, as for a broker that is away."""
    async with Publisher(agent.options, source="/a") as bus:
        await bus.publish(HEARTBEAT)
        if meanwhile == "half a file":
            agent.path.write_text(agent.path.read_text()[:100])
        elif meanwhile == "no file":
            agent.path.unlink()
        await until(lambda: noticed(caplog, meanwhile))
        waiting = await bus.publish_soon(HEARTBEAT)
        agent.path.write_text(agent.operator.credentials())
        confirmed = await asyncio.wait_for(waiting, 15)
        assert confirmed.sequence == 2


async def noticed(caplog: pytest.LogCaptureFixture, meanwhile: str) -> bool:
    """The log names what is wrong with the attempts since the token expired."""
    words = {
        "the old one": "(?i)authorization violation",
        "half a file": "agent.creds is no credentials file, or not all of it",
        "no file": r"cannot read .*agent\.creds: No such file",
    }
    return re.search(words[meanwhile], caplog.text) is not None


async def test_leaving_after_the_token_expired_ends(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await Publisher(agent.options, source="/a", drain_timeout=0.5).__aenter__()
    await until(lambda: noticed(caplog, "the old one"))
    lost = await bus.publish_soon(HEARTBEAT)
    with pytest.raises(PublishFailed, match="1 events are not confirmed"):
        await asyncio.wait_for(bus.__aexit__(None, None, None), 10)
    with pytest.raises(PublishFailed, match="closed"):
        await lost


async def test_the_connection_of_a_worker_is_renewed_likewise(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def on_closed() -> None:
        ended.set()

    client = await connect(agent.options, name="worker", on_closed=on_closed)
    await until(lambda: noticed(caplog, "the old one"))
    agent.path.write_text(agent.operator.credentials())

    async def connected() -> bool:
        return client.is_connected

    await until(connected)
    assert not ended.is_set()
    assert await client.rtt() > 0
    await close(client)


@pytest.mark.parametrize("text", ["", "SU", "nonsense", "SUABC\n"])
async def test_an_nkey_file_that_is_no_good_is_named_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.nk"
    path.write_text(text)
    async with EmbeddedNats(extra_config=users(identity())) as server:
        options = NatsOptions(url=server.url, nkey=str(path))
        with pytest.raises(SourceUnavailable, match=r"agent\.nk holds no valid seed"):
            await asyncio.wait_for(connect(options, name="test"), 10)
