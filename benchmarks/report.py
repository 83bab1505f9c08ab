"""Results as tables in Markdown."""

from collections.abc import Iterator, Mapping
from statistics import median

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Figures
from benchmarks.queries import Queries
from benchmarks.session import Compared, Grown, Results, Summary
from benchmarks.telemetry import Telemetry
from benchmarks.threads import PROCESSES, THREADS

_THREADS = f"langgraph: {PROCESSES * THREADS} threads in {PROCESSES} processes"
_SAVERS = {"penstock": "PenstockSaver, one worker", "postgres": "AsyncPostgresSaver, pools"}
_TITLES = {
    "penstock": "Penstock",
    "copy": "limit: COPY of ready rows",
    "go": "Go (nats.go, pgx), the history alone",
    "faststream": "FastStream, batches of 500, `executemany`",
    "stock": "nats-py `fetch`, `executemany`",
    "staged": "nats-py `fetch`, COPY and merge",
    "callback": "aio-pika callback, `executemany`",
    "consume": "aio-pika callback, no database",
}
_GROWING = {
    "batch_size": "`batch_size`",
    "in_flight": "`in_flight`",
    "processes": "worker processes",
    "partitions": "daily partitions of the past",
    "attached": "attached partitions",
    "agents": "agents",
    "backlog": "events in the backlog",
}
_BUSES = ("nats", "rabbitmq")


def ratios(results: Results) -> dict[str, float]:
    """Rates of Penstock relative to other rates of the same run."""
    found: dict[str, float | None] = {
        "heartbeats: FastStream": _against(results, "heartbeats", "faststream"),
        "heartbeats: limit": _against(results, "heartbeats", "copy"),
        "heartbeats: Go worker": _against(results, "heartbeats", "go"),
        "heartbeats: Go worker, all CPU": _cpu_against(results, "heartbeats", "go"),
        "mix: Go worker": _against(results, "mix", "go"),
        "mix: Go worker, all CPU": _cpu_against(results, "mix", "go"),
        "mix: FastStream": _against(results, "mix", "faststream"),
        "replay: new events": _ratio(
            _rate(results, "replay", "penstock"), _rate(results, "heartbeats", "penstock")
        ),
        "rabbitmq: aio-pika callback": _against(results, "rabbitmq", "callback"),
        "backlog: ten times as long": _grown(results, "backlog"),
        "processes: two": _grown(results, "processes"),
        "partitions: 120 attached for 3": _grown(results, "attached"),
    }
    return {name: round(ratio, 2) for name, ratio in found.items() if ratio is not None}


def _rate(results: Results, name: str, way: str) -> float | None:
    compared = results.compared.get(name)
    summary = compared.ways.get(way) if compared else None
    return summary.median.events_per_second if summary and summary.median else None


def _startup(results: Results) -> float | None:
    compared = results.compared.get("heartbeats")
    found = compared.ways["penstock"].median if compared else None
    return found.startup_s if found else None


def _against(results: Results, name: str, way: str) -> float | None:
    return _ratio(_rate(results, name, "penstock"), _rate(results, name, way))


def _cpu_against(results: Results, name: str, way: str) -> float | None:
    """The CPU of all processes for an event, relative to that of another way."""
    return _ratio(_cpu(results, name, "penstock"), _cpu(results, name, way))


def _cpu(results: Results, name: str, way: str) -> float | None:
    compared = results.compared.get(name)
    summary = compared.ways.get(way) if compared else None
    return sum(summary.median.cpu.values()) if summary and summary.median else None


def _grown(results: Results, what: str) -> float | None:
    """The rate at the greatest value relative to that at the least."""
    points = sorted((p for p in results.growth if p.what == what), key=lambda p: p.value)
    rates = [p.summary.median.events_per_second for p in points if p.summary.median]
    return _ratio(rates[-1], rates[0]) if len(rates) > 1 else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def show(results: Results, console: Console) -> None:
    """Print all tables."""
    for title, table in tables(results):
        console.print(f"\n### {title}\n", markup=False)
        console.print(table)
    for trouble in results.troubles:
        console.print(f"\nNot measured: {trouble}", markup=False)


def tables(results: Results) -> Iterator[tuple[str, Table]]:
    """A title and a table for everything that was measured."""
    for name, compared in results.compared.items():
        yield f"{name}: {compared.title}", _compared(compared)
    if results.latency:
        yield "latency from hand-over to commit", _latency(results)
    if results.growth:
        yield "growth", _growth(results.growth)
    yield from _by_themselves(results)
    if (startup := _startup(results)) is not None:
        table = Table("start-up", "s", box=MARKDOWN)
        table.add_row("from the start of the process to the first commit", f"{startup:.2f}")
        yield "start-up with a backlog", table
    if against := ratios(results):
        table = Table("Penstock against", "ratio", box=MARKDOWN)
        for name, ratio in against.items():
            table.add_row(name, f"{ratio:.2f}")
        yield "ratios of this run", table


def _by_themselves(results: Results) -> Iterator[tuple[str, Table]]:
    """What is measured in one way only."""
    if results.telemetry:
        yield "samples of metrics", _telemetry(results.telemetry)
    if found := results.queries:
        held = f"{found.size.tasks:,} tasks, {found.size.log_rows:,} log rows, {found.gigabytes} GB"
        yield f"target queries: {found.size.agents:,} agents, {held}", _queries(found)
    if results.receipts:
        yield "receipts: from publishing to the answer", _receipts(results)
    if results.threads:
        yield _THREADS, _threads(results)


def _compared(compared: Compared) -> Table:
    table = Table(
        *("way", "events", "events/s", "worker µs", "PostgreSQL µs", "bus µs", "all µs"),
        *("peak MB",),
        box=MARKDOWN,
    )
    for way, summary in compared.ways.items():
        table.add_row(_TITLES[way], *_cells(summary))
    return table


def _cells(summary: Summary) -> list[str]:
    figures = summary.median
    if figures is None:
        return [(summary.trouble or "").partition("\n")[0]]
    return [
        f"{figures.events:,}",
        f"{figures.events_per_second:,.0f}",
        f"{figures.cpu['worker']:.1f}",
        f"{figures.cpu['postgres']:.1f}",
        f"{_bus(figures):.1f}",
        f"{sum(figures.cpu.values()):.1f}",
        f"{figures.peak_mb:.0f}",
    ]


def _bus(figures: Figures) -> float:
    return sum(figures.cpu.get(name, 0.0) for name in _BUSES)


def _latency(results: Results) -> Table:
    table = Table(
        *("events/s", "p50 ms", "p99 ms", "longest ms", "bus confirms: p50 ms", "p99 ms"),
        box=MARKDOWN,
    )
    for found in results.latency:
        table.add_row(
            f"{found.rate:,}",
            *(f"{ms:.1f}" for ms in (found.p50_ms, found.p99_ms, found.longest_ms)),
            *(f"{ms:.1f}" for ms in (found.paced.confirm_p50_ms, found.paced.confirm_p99_ms)),
        )
    return table


def _telemetry(found: Telemetry) -> Table:
    rate = found.sent.samples / found.seconds
    table = Table("what", "figure", box=MARKDOWN)
    busy = ", ".join(f"{name} {cores:.2f}" for name, cores in found.cores.items())
    title = f"{rate:,.0f} samples/s beside {found.sent.others / found.seconds:,.0f} heartbeats/s"
    table.add_row(f"{title}, for {found.seconds:g} s: cores busy", busy)
    for what, lags in (("samples", found.sample_lags_ms), ("heartbeats", found.other_lags_ms)):
        said = f"{median(lags):.0f} ms, {max(lags):.0f} ms"
        table.add_row(f"longest lag of {what} in a second: median, worst", said)
    for what, figures in (("drained", found.drained), ("COPY of ready rows", found.copied)):
        cpu = ", ".join(f"{name} {us:.1f}" for name, us in figures.cpu.items())
        table.add_row(f"{what}: samples/s", f"{figures.events_per_second:,}")
        table.add_row(f"{what}: µs a sample", cpu)
    return table


def _queries(found: Queries) -> Table:
    table = Table(
        *("query", "target ms", "cold ms", "warm ms", "rows", "pages", "read by"), box=MARKDOWN
    )
    for one in found.asked:
        times = (f"{ms:.2f}" for ms in (one.cold_ms, one.warm_ms))
        counts = (f"{count:,}" for count in (one.rows, one.pages))
        target = "" if one.target_ms is None else f"{one.target_ms:g}"
        table.add_row(one.name, target, *times, *counts, ", ".join(one.plan))
    return table


def _receipts(results: Results) -> Table:
    table = Table(
        *("broker", "events/s", "p50 ms", "p99 ms", "longest ms", "bus confirms: p50 ms", "p99 ms"),
        *("publisher behind ms", "cores busy"),
        box=MARKDOWN,
    )
    for found in results.receipts:
        took, confirmed = found.receipt, found.confirmation
        times = (took.p50, took.p99, took.longest, confirmed.p50, confirmed.p99, found.behind_ms)
        table.add_row(found.broker, f"{found.rate:,}", *map(str, times), _by_name(found.cores))
    return table


def _threads(results: Results) -> Table:
    table = Table(
        *("way", "steps/s", "p50 ms", "p99 ms", "a read: p99 ms", "connections", "CPU µs a step"),
        box=MARKDOWN,
    )
    for way, turns in results.threads.items():
        names = ("steps_per_second", "p50_ms", "p99_ms", "read_p99_ms")
        medians = [f"{median(getattr(turn, name) for turn in turns):,.1f}" for name in names]
        most = max(turn.connections for turn in turns)
        cpu = {name: median(turn.cpu[name] for turn in turns) for name in turns[0].cpu}
        table.add_row(_SAVERS[way], *medians, str(most), _by_name(cpu))
    return table


def _by_name(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in found.items())


def _growth(points: list[Grown]) -> Table:
    table = Table(
        *("what", "value", "events", "events/s", "worker µs", "PostgreSQL µs", "bus µs"),
        *("all µs", "peak MB"),
        box=MARKDOWN,
    )
    for point in sorted(points, key=lambda p: (list(_GROWING).index(p.what), p.value)):
        table.add_row(_GROWING[point.what], f"{point.value:,}", *_cells(point.summary))
    return table
