"""The end of a Publisher without async: other threads are told, and a fork has a beginning."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import pytest
from langchain_core.runnables import RunnableConfig

from penstock import Publisher as AsyncPublisher
from penstock import PublishFailed
from penstock.integrations.langgraph import PenstockSaver
from penstock.sync import Publisher
from penstock.worker.sending.state import StateValue
from tests.support.bucket import make_bucket
from tests.support.connecting import connected
from tests.support.waiting import until

Result = TypeVar("Result")

SOON = 20.0
"""Seconds; without the remedies these tests never ended."""


async def test_closing_tells_all_who_wait(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(nats_url) as client:
        await make_bucket(client, "AGENT_STATE", atomic=True)
    await asyncio.to_thread(wait_and_close, nats_url)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def apart(work: Callable[[], Result]) -> Future[Result]:
    """The result of ``work`` in another thread, which may stay behind."""
    asked = Future[Result]()

    def answer() -> None:
        try:
            asked.set_result(work())
        except BaseException as error:  # noqa: BLE001  (as a pool does)
            asked.set_exception(error)

    threading.Thread(target=answer, daemon=True).start()
    return asked


def wait_and_close(url: str) -> None:
    bus = Publisher(url, source="/test").open()
    thread = bus._opened()._thread
    read, unread = bus.watch("a", "k"), bus.watch("a", "k")
    assert next(read) is next(unread) is None
    reading: Future[StateValue | None] = apart(lambda: next(read))
    waiting = bus.start(lambda here: here.wait_for("a", "k", timeout=None))
    assert not waiting.done()
    bus.close()
    for asked in (reading, waiting):
        with pytest.raises(PublishFailed, match=r"was closed .* when all threads are done"):
            asked.result(SOON)
    with pytest.raises(PublishFailed, match="was closed"):
        next(unread)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="not open"):
        bus.flush()
    with bus:
        bus.flush()


async def test_leaving_a_saver_tells_all_who_wait(nats_url: str) -> None:
    """Of answers that do not come: whoever reads says nothing."""
    async with connected(nats_url) as client:
        asked = await client.subscribe("penstock.read.>")
        await client.flush()
        with PenstockSaver.from_url(nats_url) as saver:
            config: RunnableConfig = {"configurable": {"thread_id": "t"}}
            reading = apart(lambda: saver.get_tuple(config))
            await asked.next_msg(SOON)
        with pytest.raises(PublishFailed, match="was closed"):
            await asyncio.to_thread(reading.result, SOON)


async def test_closing_ends_an_opening_that_waits(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "penstock")
    bus = Publisher(f"nats://127.0.0.1:{free_port}", source="/test", wait=True)
    opening = apart(bus.open)
    await until(lambda: "publisher_waits" in caplog.text)
    await asyncio.to_thread(apart(bus.close).result, SOON)
    with pytest.raises(PublishFailed, match="was closed"):
        await asyncio.to_thread(opening.result, SOON)


async def test_the_last_reference_may_be_dropped_in_its_own_thread(nats_url: str) -> None:
    thread = await asyncio.to_thread(drop_within, nats_url)
    await until(lambda: not thread.is_alive(), SOON)


def drop_within(url: str) -> threading.Thread:
    held, released = [Publisher(url, source="/test").open()], threading.Event()

    async def drop(_: AsyncPublisher) -> None:
        await asyncio.to_thread(released.wait)
        held.clear()
        gc.collect()

    thread = held[0]._opened()._thread
    held[0].start(drop)
    released.set()
    return thread


FORKING = """
import os, signal, sys
from penstock.schemas import AgentHeartbeat
from penstock.sync import Publisher

def fork(used):
    with bus._lock:  # as if another thread held it just now
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(20)
    if used:
        bus.publish(AgentHeartbeat(agent_id="child"))
        bus.state("a-7", "n", None)
        try:
            next(changes)
        except Exception as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("the parent's")
    sys.exit()

with Publisher(sys.argv[1], source="/script") as bus:
    changes = bus.watch("a-7", "n")
    next(changes)
    assert fork(used=False) == 0
    assert fork(used=True) == 0
    bus.publish(AgentHeartbeat(agent_id="parent"))
"""
"""In the children the program ends within `with`, too."""


async def test_a_fork_begins_anew_and_leaves_the_parents_alone(nats_url: str) -> None:
    async with connected(nats_url) as client:
        await make_bucket(client, "AGENT_STATE", atomic=True)
        stream = client.jetstream()
        await stream.add_stream(name="AGENT_STATE", subjects=["agents.>"])
        script = await asyncio.to_thread(run_script, FORKING, nats_url)
        assert (script.returncode, script.stdout, script.stderr) == (0, b"", b"")
        assert (await stream.stream_info("AGENT_STATE")).state.messages == 2


def run_script(text: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", text, *words], capture_output=True, check=False, timeout=60
    )
