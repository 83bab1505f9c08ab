"""``penstock publish`` as it is run: a process, a file or a pipe, a server."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from nats import connect
from nats.js import JetStreamContext

from penstock.schemas.identity import event_uuid
from penstock.worker.commands.publish import publish_file
from penstock.worker.settings.keys import load
from tests.support.running import running, settings_for


@pytest.fixture
async def js(nats_url: str) -> AsyncIterator[JetStreamContext]:
    client = await connect(nats_url)
    yield client.jetstream()
    await client.close()


def line(number: int, **changed: Any) -> str:
    event = {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "/tests",
        "type": "tasks.updated",
        "time": "2026-03-01T00:00:00Z",
        "subject": f"t {number}",
        "data": {"status": "running"},
    }
    return json.dumps({**event, **changed})


async def publish(url: str, path: str, standard_input: bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    environment = {name: value for name, value in os.environ.items() if "PENSTOCK" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "publish", path, "--nats-url", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    out, error = await process.communicate(standard_input)
    return process.returncode or 0, out.decode(), error.decode()


async def test_a_file_goes_to_its_streams_as_it_stands(
    js: JetStreamContext, nats_url: str, tmp_path: Path
) -> None:
    lines = [line(1), line(2, subject="t.*"), line(3, type="agents.heartbeat", data={})]
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines))

    assert await publish(nats_url, str(file)) == (0, "3 published, 0 duplicates, 0 refused\n", "")

    first = await js.get_msg("TASK_EXECUTION", 1)
    assert first.data == lines[0].encode()
    assert first.subject == "tasks.t=201.updated"
    assert (first.headers or {})["Nats-Msg-Id"] == event_uuid("/tests", "e-1")
    assert (await js.get_msg("TASK_EXECUTION", 2)).subject == "tasks.t=2E=2A.updated"
    assert (await js.stream_info("AGENT_STATE")).state.messages == 1


async def test_the_same_file_is_all_duplicates_unless_it_is_sent_again(
    js: JetStreamContext, nats_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(line(n) for n in range(1500)))
    settings = load({"nats_url": nats_url}, environ={})
    for again in (False, False, True):
        assert await publish_file(settings, str(file), None, again=again) == 0
    told = capsys.readouterr()
    assert told.err.count("--again") == 1
    assert told.out.splitlines() == [
        "1500 published, 0 duplicates, 0 refused",
        "0 published, 1500 duplicates, 0 refused",
        "1500 published, 0 duplicates, 0 refused",
    ]
    assert (await js.stream_info("TASK_EXECUTION")).state.messages == 3000


async def test_broken_lines_are_named_and_the_rest_is_published(
    js: JetStreamContext, nats_url: str
) -> None:
    lines = ["", line(1), "{not json", line(3, type="tasks"), line(4, time=None), "\udcff", line(6)]
    text = "\n".join(lines).encode(errors="surrogateescape")

    code, out, error = await publish(nats_url, "-", text)

    assert code == 1
    assert out == "2 published, 0 duplicates, 0 refused, 4 broken skipped\n"
    told = error.splitlines()
    assert [text.partition(":")[0] for text in told] == ["line 3", "line 4", "line 5", "line 6"]
    assert "domain.verb" in told[1]
    assert "$.time" in told[2]
    assert (await js.stream_info("TASK_EXECUTION")).state.messages == 2


async def test_a_refused_line_is_named_with_the_reason(nats_url: str) -> None:
    lines = [line(1, type="tusks.updated"), line(2)]
    code, out, error = await publish(nats_url, "-", "\n".join(lines).encode())
    assert (code, out) == (1, "1 published, 0 duplicates, 1 refused\n")
    assert error.startswith("line 1: no stream takes 'tusks.t=201.updated'")


async def test_arrays_and_pretty_printed_events_are_read_and_a_refused_one_is_named(
    js: JetStreamContext, nats_url: str
) -> None:
    events = [json.loads(line(n)) for n in range(5)]
    events[1]["type"] = "tusks.updated"
    text = json.dumps(events[:3], indent=2) + "\n" + json.dumps(events[3], indent=2) + line(4)
    code, out, error = await publish(nats_url, "-", text.encode())
    assert (code, out) == (1, "4 published, 0 duplicates, 1 refused\n")
    assert error.startswith("line 13, event 2: no stream takes 'tusks.t=201.updated'")
    assert json.loads((await js.get_msg("TASK_EXECUTION", 3)).data or b"") == events[3]


async def test_a_long_line_is_read_in_parts(
    js: JetStreamContext, nats_url: str, tmp_path: Path
) -> None:
    """The line is longer than a chunk, and full of what must not be cut in two."""
    file = tmp_path / "events.json"
    data = {"status": "running", "result": '\\"' * 5000}
    file.write_text(json.dumps([json.loads(line(n, data=data)) for n in range(50)]))
    assert await publish(nats_url, str(file)) == (0, "50 published, 0 duplicates, 0 refused\n", "")
    assert json.loads((await js.get_msg("TASK_EXECUTION", 50)).data or b"")["data"] == data


@pytest.mark.parametrize("broker", ["nats", "rabbitmq"])
async def test_with_receipts_each_event_is_told_of(
    broker: str, nats_url: str, rabbit_url: str, database: str, tmp_path: Path
) -> None:
    more = {"brokers": broker, "rabbitmq_url": rabbit_url, "window_past": "unlimited"}
    settings = settings_for(nats_url, database, **more)
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join([line(1), line(2, data={"status": "asleep"}), line(3)]))
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        async with running(settings):
            assert await publish_file(settings, str(file), None, receipt=True) == 1
            assert await publish_file(settings, str(file), None, receipt=True) == 1
    told = [line for line in out.getvalue().splitlines() if " stored, " in line]
    assert told == [
        "2 stored, 0 duplicates, 1 rejected, 0 refused",
        "0 stored, 2 duplicates, 1 rejected, 0 refused",
    ]
    first, second = error.getvalue().splitlines()
    assert first == second
    assert first.startswith("line 2: rejected: invalid_data: ")


async def test_a_rate_is_kept(nats_url: str, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(line(n) for n in range(11)))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await publish_file(load({"nats_url": nats_url}, environ={}), str(file), 20.0)
    assert loop.time() - begun >= 0.5


async def test_a_file_that_is_not_there_is_named(nats_url: str) -> None:
    code, out, error = await publish(nats_url, "/no/such.ndjson")
    assert (code, out) == (2, "")
    assert "/no/such.ndjson" in error
    assert "Traceback" not in error
