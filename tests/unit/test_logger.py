"""Lines of the rooms that run inside an agent, as the agent and as the worker see them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from penstock.worker.logger import Logger
from penstock.worker.ops import logs


@pytest.fixture
def configured() -> Iterator[io.StringIO]:
    """The worker's logging, as JSON; put back at the end."""
    root, ours = logging.getLogger(), logging.getLogger("penstock")
    former = root.handlers, root.level, ours.level
    out = io.StringIO()
    logs.configure("info", "json", out)
    yield out
    root.handlers, root.level, ours.level = former
    logging.captureWarnings(capture=False)


def test_an_agent_reads_event_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    log = Logger("penstock.worker.nats.connection", connection="publisher /a")
    with caplog.at_level(logging.INFO):
        log.bind(server="n-1").warning("nats_error", error="away")
    [record] = caplog.records
    assert record.name == "penstock.worker.nats.connection"
    assert record.getMessage() == "nats_error connection='publisher /a' server='n-1' error='away'"


def test_the_worker_shows_fields_as_those_of_its_own_lines(configured: io.StringIO) -> None:
    log = Logger("penstock.worker.nats.connection", connection="penstock w-1")
    log.info("nats_reconnected")
    log.error("publish_failed", exc_info=ValueError("ours"), domain="agents")
    first, second = (json.loads(line) for line in configured.getvalue().splitlines())
    assert first.pop("timestamp")
    assert first == {
        "level": "info",
        "event": "nats_reconnected",
        "logger": "penstock.worker.nats.connection",
        "connection": "penstock w-1",
    }
    assert (second["level"], second["domain"]) == ("error", "agents")
    assert "ValueError: ours" in second["exception"]


def test_a_level_that_is_not_asked_for_costs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "penstock"):
        Logger("penstock.worker.nats.connection").info("nats_reconnected")
    assert not caplog.records


def test_nothing_is_printed_before_logging_is_configured(capfd: pytest.CaptureFixture[str]) -> None:
    """Python itself would print warnings to standard error."""
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("penstock").handlers)
    root = logging.getLogger()
    former, root.handlers = root.handlers, []
    try:
        Logger("penstock.worker.nats.connection").warning("nats_disconnected")
    finally:
        root.handlers = former
    assert capfd.readouterr() == ("", "")
