"""``penstock run --processes 2`` on real servers: killed, stopped, orphaned, refused."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.worker.commands.provision import provision
from penstock.worker.demo.process import Samples
from tests.support.running import settings_for
from tests.support.traffic import LONG, STREAM, all_of, grown, settlements, traffic
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment


class Both:
    """Two workers under one process, and what can be seen of them from outside."""

    def __init__(self, process: WorkerProcess, port: int, log: Path) -> None:
        self.process = process
        self._address = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def children(self) -> dict[str, int]:
        """Process ids by worker_id, of those that run."""
        running = {child.pid for child in psutil.Process(self.process.pid).children()}
        started = {line["child"]: line["pid"] for line in self.lines("child_started")}
        return {name: pid for name, pid in started.items() if pid in running}

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What the log has under that name."""
        said = [json.loads(line) for line in self._log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in said if line["event"] == event]

    async def get(self, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as client, client.get(self._address + path) as found:
                return found.status, await found.text()
        except aiohttp.ClientError:
            return 0, ""

    async def ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def samples(self) -> Samples:
        families = text_string_to_metric_families((await self.get("/metrics"))[1])
        return Samples([sample for family in families for sample in family.samples])


@asynccontextmanager
async def two(settings: Mapping[str, str], port: int, log: Path) -> AsyncIterator[Both]:
    """Both ready. Whatever happens, nothing of them is left."""
    environ = {**settings, "PENSTOCK_HTTP_PORT": str(port), "PENSTOCK_WORKER_ID": "w"}
    async with WorkerProcess(environ, log) as process:
        await process.start("--processes", "2", "--streams", STREAM)
        both = Both(process, port, log)
        pids = set[int]()
        try:
            await until(both.ready)
            pids = set(both.children.values())
            yield both
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def settings(nats_url: str, database: str) -> dict[str, str]:
    return environment(nats_url, database, log_format="json")


async def test_one_that_is_killed_comes_back_and_nothing_is_lost_or_doubled(
    settings: dict[str, str], nats_url: str, database: str, free_port: int, tmp_path: Path
) -> None:
    async with two(settings, free_port, tmp_path / "log") as both:
        async with traffic(nats_url) as confirmed:
            await grown(database, 100)
            before = both.children
            counted = (await both.samples()).total("penstock_received_total")
            os.kill(before["w-1"], signal.SIGKILL)
            await until(lambda: len(both.lines("child_ended")) == 1)
            status, text = await both.get("/readyz")
            assert (status, "w-1" in text) == (503, True)
            assert (await both.get("/livez"))[0] == 200
            await until(both.ready)
            await grown(database, 100)
            after = both.children
            assert after["w-2"] == before["w-2"]
            assert after["w-1"] != before["w-1"]
            assert (await both.samples()).total("penstock_received_total") > counted
        await all_of(database, confirmed)
        assert await both.process.stop() == 0


async def test_sigterm_drains_all_and_returns_nothing(
    settings: dict[str, str], nats_url: str, database: str, free_port: int, tmp_path: Path
) -> None:
    await provision(settings_for(nats_url, database, ack_wait=LONG), dry_run=False)
    settings = {**settings, "PENSTOCK_ACK_WAIT": LONG}
    async with settlements(nats_url) as settled:
        async with traffic(nats_url) as confirmed:
            for number in range(2):
                async with two(settings, free_port, tmp_path / f"log-{number}") as both:
                    await grown(database, 100)
                    pids = both.children.values()
                    assert await both.process.stop() == 0
                    assert not any(psutil.pid_exists(pid) for pid in pids)
                    stopped = both.lines("worker_stopped")
                    assert {line.get("worker_id") for line in stopped} == {None, "w-1", "w-2"}
                    assert all(line["drained"] for line in stopped)
        async with two(settings, free_port, tmp_path / "log") as both:
            await all_of(database, confirmed)
            assert await both.process.stop() == 0
        await settled.each_once(len(confirmed))


@pytest.mark.faults
async def test_a_signal_to_the_whole_group_drains_too(
    settings: dict[str, str], free_port: int, tmp_path: Path
) -> None:
    """As some supervisors send it; the children must not take ours for a second one."""
    async with two(settings, free_port, tmp_path / "log") as both:
        for pid in both.children.values():
            os.kill(pid, signal.SIGTERM)
        assert await both.process.stop() == 0


async def test_a_second_signal_ends_all_at_once(
    settings: dict[str, str], free_port: int, tmp_path: Path
) -> None:
    async with two(settings, free_port, tmp_path / "log") as both:
        pids = list(both.children.values())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        os.kill(both.process.pid, signal.SIGTERM)
        await until(lambda: both.lines("worker_stopping"))
        assert await both.process.stop() == 128 + signal.SIGTERM
        await until(lambda: not any(map(alive, pids)))


async def test_children_drain_when_their_parent_is_killed(
    settings: dict[str, str], free_port: int, tmp_path: Path
) -> None:
    async with two(settings, free_port, tmp_path / "log") as both:
        pids = list(both.children.values())
        await both.process.kill()
        await until(lambda: not any(map(alive, pids)))
        assert len(both.lines("worker_stopped")) == 2


async def test_each_is_named_where_it_matters_and_one_that_hangs_is_not_alive(
    settings: dict[str, str], free_port: int, tmp_path: Path
) -> None:
    async with two(settings, free_port, tmp_path / "log") as both:
        healthy = (await both.samples()).by("penstock_source_healthy", "worker")
        assert healthy == {"w-1": 1, "w-2": 1}
        os.kill(both.children["w-2"], signal.SIGSTOP)
        assert await both.get("/livez") == (503, "w-2: does not answer\n")
        status, text = await both.get("/readyz")
        checks = json.loads(text)["checks"]
        assert (status, checks["w-2"]) == (503, "does not answer")
        assert checks["w-1 postgres"] == "ok"
        os.kill(both.children["w-2"], signal.SIGCONT)
        await until(both.ready)
        assert await both.get("/livez") == (200, "ok\n")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"streams": "TASKS"}, "did you mean TASK_EXECUTION?"),
        ({"http_host": "192.0.2.1", "http_port": "0"}, "cannot listen there"),
        ({"brokers": "rabbitmq", "rabbitmq_queue_type": "stream"}, "would read everything"),
    ],
    ids=["child", "parent", "stream queues"],
)
async def test_what_cannot_run_ends_all(
    nats_url: str, database: str, wrong: dict[str, str], said: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with WorkerProcess(environment(nats_url, database, **wrong), log) as process:
        await process.start("--processes", "2")
        assert await process.wait(60) == 2
        assert process.said(said)


async def test_all_end_in_order_when_nothing_is_left(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with WorkerProcess(settings, tmp_path / "log") as process:
        await process.start("--processes", "2", "--until-idle", "0.3")
        assert await process.wait(60) == 0


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
