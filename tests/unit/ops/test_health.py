"""What an orchestrator sees, and how a worker is stopped."""

import asyncio
import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import structlog

from penstock.worker.errors import SettingsError
from penstock.worker.lifecycle import stop_on_signals
from penstock.worker.ops import http, logs
from penstock.worker.ops.http import HealthServer, OwnAnswers
from penstock.worker.pipeline.metrics import Metrics
from tests.support.waiting import PATIENCE


@asynccontextmanager
async def served(trouble: dict[str, str | None]) -> AsyncIterator[str]:
    checks = {name: lambda name=name: trouble[name] for name in trouble}
    async with HealthServer("127.0.0.1", 0, OwnAnswers(Metrics().registry, checks)) as server:
        yield f"http://127.0.0.1:{server.port}"


async def get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_readiness_follows_the_checks() -> None:
    trouble: dict[str, str | None] = {"postgres": None, "source TASKS": None}
    async with served(trouble) as url:
        status, _, text = await get(f"{url}/readyz")
        assert status == 200
        assert json.loads(text) == {
            "ready": True,
            "checks": {"postgres": "ok", "source TASKS": "ok"},
        }

        trouble["source TASKS"] = "nats is away or silent"
        status, _, text = await get(f"{url}/readyz")
        assert status == 503
        assert json.loads(text) == {
            "ready": False,
            "checks": {"postgres": "ok", "source TASKS": "nats is away or silent"},
        }
        assert (await get(f"{url}/livez"))[0] == 200

        trouble["source TASKS"] = None
        assert (await get(f"{url}/readyz"))[0] == 200


async def test_metrics_are_prometheus_text() -> None:
    async with served({}) as url:
        status, kind, text = await get(f"{url}/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    assert "# TYPE penstock_received_total counter" in text


async def test_a_port_in_use_names_the_setting() -> None:
    metrics = Metrics()
    async with HealthServer("127.0.0.1", 0, OwnAnswers(metrics.registry, {})) as first:
        with pytest.raises(SettingsError, match=f"http_port = {first.port}"):
            async with HealthServer("127.0.0.1", first.port, OwnAnswers(metrics.registry, {})):
                pytest.fail("two servers on one port")


async def test_a_second_worker_on_a_host_takes_a_free_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = Metrics()
    async with HealthServer("127.0.0.1", 0, OwnAnswers(metrics.registry, {})) as first:
        monkeypatch.setattr(http, "_USUAL_PORT", first.port)
        async with HealthServer("127.0.0.1", http.AUTO, OwnAnswers(metrics.registry, {})) as second:
            assert second.port not in (0, first.port)
            assert (await get(f"http://127.0.0.1:{second.port}/livez"))[0] == 200
    async with HealthServer("127.0.0.1", http.AUTO, OwnAnswers(metrics.registry, {})) as alone:
        assert alone.port == first.port


async def test_auto_is_for_a_port_in_use_only() -> None:
    with pytest.raises(SettingsError, match=r"http_host = '192\.0\.2\.1'.*choose another"):
        async with HealthServer("192.0.2.1", http.AUTO, OwnAnswers(Metrics().registry, {})):
            pytest.fail("an address that this host does not have")


async def test_the_port_is_free_again_afterwards() -> None:
    metrics = Metrics()
    async with HealthServer("127.0.0.1", 0, OwnAnswers(metrics.registry, {})) as first:
        port = first.port
    async with HealthServer("127.0.0.1", port, OwnAnswers(metrics.registry, {})) as second:
        assert second.port == port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_and_handlers_are_put_back(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with stop_on_signals() as stopping:
        assert not stopping.is_set()
        signal.raise_signal(number)
        await asyncio.wait_for(stopping.wait(), PATIENCE)
    assert signal.getsignal(number) is former


STUCK = """
import asyncio, time
from penstock.worker.lifecycle import stop_on_signals

async def main():
    with stop_on_signals() as stopping:
        print("up", flush=True)
        await stopping.wait()
        print("stopping", flush=True)
        time.sleep(60)

asyncio.run(main())
"""


def test_the_second_signal_ends_even_a_stuck_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "stopping\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 128 + signal.SIGINT


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("penstock")
    kept = root.handlers, root.level, ours.level
    configured = structlog.get_config()
    yield
    root.handlers = kept[0]
    root.setLevel(kept[1])
    ours.setLevel(kept[2])
    logging.captureWarnings(capture=False)
    structlog.configure(**configured)


@pytest.mark.usefixtures("logging_restored")
def test_lines_of_ours_and_of_libraries_are_json_off_a_terminal() -> None:
    out = io.StringIO()
    logs.configure("info", "auto", out)
    structlog.get_logger("penstock.worker.pipeline.pipeline").info("batch_written", messages=3)
    structlog.get_logger("penstock.worker.pipeline.pipeline").debug("too_fine")
    logging.getLogger("nats").warning("slow consumer %s", "x")
    logging.getLogger("nats").info("chatter")
    ours, theirs = (json.loads(line) for line in out.getvalue().splitlines())
    assert (ours["event"], ours["messages"], ours["level"]) == ("batch_written", 3, "info")
    assert (theirs["event"], theirs["logger"]) == ("slow consumer x", "nats")
    assert ours["timestamp"].endswith("Z")
    assert list(ours)[:3] == ["timestamp", "level", "event"]


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_payload(form: str) -> None:
    out = io.StringIO()
    logs.configure("info", form, out)
    log = structlog.get_logger("penstock.worker.pipeline.pipeline")

    def fail(_payload: str) -> None:
        raise ValueError("odd")

    try:
        fail("the secret of " + "somebody")
    except ValueError:
        log.exception("batch_split")
    assert "ValueError: odd" in out.getvalue()
    assert "the secret of somebody" not in out.getvalue()
