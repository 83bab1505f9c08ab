"""What the benchmarks publish is valid, and their figures follow from the runs."""

import io
import platform
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import stages, workloads
from benchmarks.go_build import built
from benchmarks.measure import Figures
from benchmarks.receipts import Receipts, spread
from benchmarks.report import ratios, show
from benchmarks.rival import missing
from benchmarks.rows import COLUMNS, row
from benchmarks.session import Compared, Grown, Results, summarize
from benchmarks.setting import interpreter
from benchmarks.threads import _figures
from benchmarks.threads_load import Load
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import DeadLetter, Message

RECORDED = {
    "agents.registered": 13,
    "tasks.created": 13,
    "tasks.updated": 161,
    "agents.heartbeat": 135,
    "messages.sent": 270,
    "agents.state_set": 135,
    "agents.status_changed": 13,
}
"""Events of each type in the recorded runs that the mix imitates."""


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    catalogue = Catalogue.load()
    return Decoder(catalogue, Window(catalogue, {}), max_bytes=1 << 20)


def figures(rate: float, **more: float) -> Figures:
    return Figures(
        events=100, seconds=1.0, events_per_second=rate, cpu={"worker": 1.0}, peak_mb=9.0, **more
    )


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_event_is_read_by_penstock_and_by_hand(name: str, decoder: Decoder) -> None:
    for made in workloads.WORKLOADS[name].make(300):
        [event] = decoder.decode([Message(subject=made.subject, body=made.body)])
        if made.event_id is None:
            assert isinstance(event, DeadLetter)
            with pytest.raises(ValueError, match="truncated"):
                row(made.body)
        else:
            assert isinstance(event, Event), event
            assert event.id == made.event_id
            table, record = row(made.body)
            assert len(record) == len(COLUMNS[table])
            assert table in event.kind.tables


def test_the_mix_has_the_proportions_of_the_record(decoder: Decoder) -> None:
    made = list(workloads.mix(20_000))
    events = decoder.decode([Message(subject=one.subject, body=one.body) for one in made])
    kinds = Counter(event.kind.name for event in events if isinstance(event, Event))
    assert kinds.keys() == RECORDED.keys()
    for kind, recorded in RECORDED.items():
        assert kinds[kind] / 20_000 == pytest.approx(recorded / 740, rel=0.2)
    sizes = [len(one.body) for one in made if one.subject.startswith("messages.")]
    assert sum(sizes) / len(sizes) == pytest.approx(1_337, rel=0.15)


def test_a_tenth_of_the_messages_repeat_an_event() -> None:
    ids = [made.event_id for made in workloads.repeated(1_000)]
    assert len(ids) - len(set(ids)) == 100


def test_a_way_that_failed_once_has_no_figures() -> None:
    good = [figures(30), figures(10), figures(20)]
    assert summarize([*good]).median == figures(20)
    assert summarize([*good, "failed: it stored 1 of 2 events"]).median is None


def test_ratios_leave_out_what_was_not_measured() -> None:
    ways = {way: summarize([figures(rate)]) for way, rate in (("penstock", 60), ("copy", 120))}
    ways["faststream"] = summarize(["FastStream is not installed"])
    compared = Compared(title="", count=100, part=100, ways=ways)
    assert ratios(Results(compared={"heartbeats": compared})) == {"heartbeats: limit": 0.5}


def test_the_cpu_of_all_processes_is_compared_too() -> None:
    ways = {way: summarize([figures(rate)]) for way, rate in (("penstock", 60), ("go", 120))}
    found = ratios(Results(compared={"mix": Compared(title="", count=1, part=1, ways=ways)}))
    assert found == {"mix: Go worker": 0.5, "mix: Go worker, all CPU": 1.0}


def test_what_agents_of_many_processes_did_is_one_turn() -> None:
    loads = [
        Load(steps=[0.1] * 10, reads=[0.02] * 2, elapsed=2.0, cpu=1.0),
        Load(steps=[0.3] * 10, reads=[0.02] * 2, elapsed=2.5, cpu=1.0),
    ]
    found = _figures(loads, 7, {"worker": 0.5, "agents": 2.0})
    assert (found.steps, found.steps_per_second, found.connections) == (20, 8.0, 7)
    assert (found.p50_ms, found.p99_ms, found.read_p99_ms) == (200.0, 300.0, 20.0)
    assert found.cpu == {"worker": 25_000, "agents": 100_000}
    took = spread([0.001, 0.003])
    receipt = Receipts(
        broker="nats",
        rate=100,
        receipt=took,
        confirmation=took,
        behind_ms=0.5,
        cores={"worker": 0.25},
    )
    printed = io.StringIO()
    results = Results(receipts=[receipt], threads={"penstock": [found]})
    show(results, Console(file=printed, width=200))
    text = printed.getvalue()
    assert "PenstockSaver, one worker" in text
    assert "worker 25000, agents 100000" in text
    assert "worker 0.25" in text


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("'--enable-optimizations' '--with-lto'", "PGO and LTO"),
        ("'--enable-shared' '--with-lto=thin'", "LTO"),
        ("'--with-wheel-pkg-dir=/usr/share/python-wheels/'", "PGO and LTO by Debian"),
        (None, "neither PGO nor LTO"),
    ],
)
def test_the_build_of_the_interpreter_is_named(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, named: str
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": asked}.get)
    assert interpreter() == f"{platform.python_version()} ({named})"


def test_go_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    built.cache_clear()
    assert missing("go") == "Go is not on the PATH"
    built.cache_clear()


def test_the_same_results_are_drawn_alike(tmp_path: Path) -> None:
    """So that a plot in the repository changes only when the figures do."""
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw  # noqa: PLC0415  (needs matplotlib)

    points = [
        Grown(what="in_flight", value=value, summary=summarize([figures(rate)]))
        for value, rate in ((1, 40_000), (2, 60_000))
    ]
    (first,) = draw(Results(growth=points), tmp_path / "first")
    (second,) = draw(Results(growth=points), tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    assert "60,000" in first.read_text("utf-8")


def test_the_stages_of_a_batch_are_measured_in_memory() -> None:
    found = stages.measure(list(workloads.WORKLOADS["mix"].make(300)), rounds=2, size=100)
    assert found.keys() == {"messages", "decode", "plan", "settle"}
    assert all(cost > 0 for cost in found.values())
