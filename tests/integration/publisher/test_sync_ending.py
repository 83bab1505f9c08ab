"""The end of a Publisher without async: other threads are told, and a fork has a beginning."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from typing import TypeVar

import pytest
from langchain_core.runnables import RunnableConfig

from penstock import Confirmation, PublishFailed
from penstock import Publisher as AsyncPublisher
from penstock.integrations.langgraph import PenstockSaver
from penstock.schemas import AgentHeartbeat
from penstock.sync import Publisher
from penstock.worker.sending.state import StateValue
from tests.support.bucket import make_bucket
from tests.support.connecting import connected
from tests.support.waiting import until

Result = TypeVar("Result")

BEAT = AgentHeartbeat(agent_id="a-7")

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


CLOSING = """
import faulthandler, signal, sys, threading
from penstock import PublishFailed
from penstock.schemas import AgentHeartbeat
from penstock.sync import Publisher

faulthandler.dump_traceback_later(20, exit=True)
main, handled = threading.get_ident(), []
bus = Publisher(sys.argv[1], source="/script", drain_timeout=0.5).open()
thread = bus._thread

def handle(*_):
    handled.append(thread._thread.is_alive())
    bus.close()

def interrupt():
    while thread.ended is None:
        pass
    signal.pthread_kill(main, signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)
sent = bus.publish_soon(AgentHeartbeat(agent_id="a-7"))
threading.Thread(target=interrupt).start()
try:
    bus.close()
except PublishFailed as error:
    assert "1 events are not confirmed" in str(error), error
else:
    raise AssertionError("nobody has confirmed it")
assert handled == [True] and not thread._thread.is_alive()
assert isinstance(sent.exception(), PublishFailed)
bus.open()
with bus._lock, bus._thread._lock:  # as if the signal came amid these
    bus.close()
"""


async def test_a_signal_handler_may_close_what_is_being_closed(nats_url: str) -> None:
    async with connected(nats_url) as client:
        await client.subscribe("agents.>")  # takes the event, and confirms nothing
        await client.flush()
        script = await asyncio.to_thread(run_script, CLOSING, nats_url)
    assert (script.returncode, script.stdout, script.stderr) == (0, b"", b"")


async def test_what_would_wait_for_its_own_thread_says_so(nats_url: str) -> None:
    async with connected(nats_url) as client:
        await client.jetstream().add_stream(name="AGENT_STATE", subjects=["agents.>"])
        # Without `prepare` a failure here would keep the program from ending.
        bus = Publisher(nats_url, source="/test").prepare().open()
        begun = bus.start(lambda _: call_within(bus))
        sent = await asyncio.to_thread(begun.result, SOON)
        assert (await asyncio.to_thread(sent.result, SOON)).sequence == 1
        closed = bus.start(lambda _: close_within(bus))
        await asyncio.to_thread(closed.result, SOON)
        await asyncio.to_thread(bus.open)
        assert (await asyncio.to_thread(bus.publish, BEAT)).sequence == 2
        await asyncio.to_thread(bus.close)


async def call_within(bus: Publisher) -> Future[Confirmation]:
    """As a callback of a future would."""
    waits: list[Callable[[], object]] = [
        lambda: bus.publish(BEAT),
        lambda: bus.publish_soon(BEAT),
        lambda: bus.state("a", "k", None),
        lambda: next(bus.watch("a", "k")),
        bus.flush,
    ]
    for wait in waits:
        with pytest.raises(RuntimeError, match=r"for ever: begin it with start\(lambda"):
            wait()
    return bus.start(lambda here: here.publish(BEAT))


async def close_within(bus: Publisher) -> None:
    bus.close()
    with pytest.raises(RuntimeError, match="for ever"):
        Publisher.open(bus)


async def test_a_forgotten_watch_may_be_collected_in_its_thread(nats_url: str) -> None:
    async with connected(nats_url) as client:
        await make_bucket(client, "AGENT_STATE", atomic=True)
    bus = Publisher(nats_url, source="/test").prepare().open()
    changes = await asyncio.to_thread(forget_watch, bus)
    await until(lambda: ended(changes), SOON)
    await asyncio.to_thread(bus.close)


def ended(changes: AsyncGenerator[StateValue | None]) -> bool:
    return changes.ag_frame is None  # type: ignore[attr-defined]


def forget_watch(bus: Publisher) -> AsyncGenerator[StateValue | None]:
    async def collect(_: AsyncPublisher) -> None:
        gc.collect()

    gc.disable()  # or else it may be collected in another thread
    try:
        watch = bus.watch("a", "k")
        assert next(watch) is None
        changes: AsyncGenerator[StateValue | None] = watch.gi_frame.f_locals["changes"]  # type: ignore[attr-defined]
        circle: list[object] = [watch]
        circle.append(circle)
        del watch, circle
        bus.start(collect).result(SOON)
    finally:
        gc.enable()
    return changes


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
