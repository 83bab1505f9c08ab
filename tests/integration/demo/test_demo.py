"""``penstock demo`` as a newcomer runs it."""

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
import pytest

from penstock.worker.demo.agents import Crowd
from penstock.worker.publisher import subject_of
from tests.support.waiting import until


def demo(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", "demo", "--agents", "20", *flags]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_message_that_was_published_is_accounted_for() -> None:
    done = demo("--seconds", "4", "--rate", "400", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert sorted(result) == sorted(
        [
            "published",
            "from_the_database",
            "stored",
            "duplicates",
            "dead_letters",
            "kv_keys",
            "events_per_second",
            "p50_ms",
            "p99_ms",
        ]
    )
    settled = result["stored"] + result["duplicates"] + result["dead_letters"]
    assert settled == result["published"] + result["from_the_database"]
    assert result["published"] > 100
    assert min(result["duplicates"], result["dead_letters"]) > 0
    assert result["kv_keys"] >= 20
    assert 0 < result["p50_ms"] <= result["p99_ms"]


@pytest.mark.faults
def test_with_a_company_the_books_balance_too() -> None:
    done = demo("--domains", "all", "--seconds", "2", "--rate", "100", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    settled = result["stored"] + result["duplicates"] + result["dead_letters"]
    assert settled == result["published"] + result["from_the_database"]
    assert result["published"] > 3000
    assert result["from_the_database"] > 0


@pytest.mark.faults
@pytest.mark.usefixtures("rabbitmq_package")
@pytest.mark.parametrize(
    ("broker", "share_of_duplicates"),
    [("rabbitmq", 0.0), ("both", 0.15)],
)
def test_with_rabbitmq_the_books_balance_too(broker: str, share_of_duplicates: float) -> None:
    done = demo("--broker", broker, "--seconds", "3", "--rate", "900", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    settled = result["stored"] + result["duplicates"] + result["dead_letters"]
    assert settled == result["published"] + result["from_the_database"]
    assert result["published"] > 100
    assert result["duplicates"] > result["stored"] * share_of_duplicates
    assert result["dead_letters"] > 0
    assert result["kv_keys"] >= 20


@pytest.mark.faults
def test_what_is_gone_is_not_offered() -> None:
    done = demo("--seconds", "1", "--rate", "100")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rows in PostgreSQL" in done.stdout
    for address in ("://", "psql", "kill"):
        assert address not in done.stdout


def test_without_rabbitmq_the_demo_says_what_to_install() -> None:
    done = demo("--broker", "both", "--seconds", "1", PATH="/nowhere")
    assert done.returncode == 2
    assert "apt-get install rabbitmq-server" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("rabbitmq_package")
def test_kept_servers_can_be_looked_at_and_stopped_as_told() -> None:
    done = demo("--seconds", "2", "--rate", "300", "--keep", "--broker", "both")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "rows in PostgreSQL" in done.stdout
    psql = next(line for line in lines if "FROM agents.agent" in line)
    stop = lines[lines.index("To stop and remove it:") + 1]
    places = dict(re.findall(r"^  (\w[\w ]+?)  +(\S+)$", done.stdout, re.MULTILINE))
    try:
        ready = places["worker"].replace("/metrics", "/readyz")
        with urlopen(ready) as answer:  # noqa: S310  (an address of the demo)
            assert answer.status == HTTPStatus.OK
        for name in ("NATS", "RabbitMQ", "PostgreSQL"):
            address = urlsplit(places[name])
            socket.create_connection((address.hostname or "", address.port or 0), 5).close()
        assert "worker_started" in Path(places["its log"]).read_text()
        shown = subprocess.run(shlex.split(psql), capture_output=True, text=True, check=True)
        assert "Agent 0" in shown.stdout
    finally:
        subprocess.run(["sh", "-c", stop], check=True)
    words = stop.replace(";", "").split()
    assert not any(Path(word).exists() for word in words if word.startswith("/"))
    pids = [int(word) for word in words if word.isdigit() and int(word) > 1]
    asyncio.run(until(lambda: not any(alive(pid) for pid in pids)))


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_crowd_registers_first_and_then_says_everything_there_is_to_say() -> None:
    crowd = Crowd(5)
    first = [crowd.next() for _ in range(5)]
    assert {said.event.spec.name for said in first} == {"agents.registered"}
    rest = [crowd.next() for _ in range(2000)]
    assert all(subject_of(said.event) for said in rest)
    assert {said.event.spec.domain for said in rest} == {"agents", "tasks", "messages", "votes"}
