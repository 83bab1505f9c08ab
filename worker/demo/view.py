"""The display of the demo: a live panel while it runs, tables at the end."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from penstock.worker.demo.figures import Counted
from penstock.worker.demo.process import Samples

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What the live view shows; rates are per second, latencies in ms."""

    elapsed: float
    seconds: float
    published: int
    metrics: Samples
    p50_ms: float
    p99_ms: float

    def outcome(self, name: str) -> int:
        """Events that came out as ``written``, ``duplicate`` or ``rejected``."""
        return self.metrics.total("penstock_events_total", outcome=name)


class Screen:
    """Draws moments, and remembers earlier ones for the rate."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque([0.0], maxlen=_WIDTH)
        self._last: tuple[float, int] = (0.0, 0)

    def draw(self, moment: Moment) -> RenderableType:
        """The panel of this moment."""
        settled = moment.metrics.total("penstock_received_total")
        passed = moment.elapsed - self._last[0]
        if passed > 0:
            self._rates.append(max(0.0, (settled - self._last[1]) / passed))
        self._last = (moment.elapsed, settled)
        facts = Columns([_flow(moment, self._rates[-1]), _letters(moment)], padding=(0, 4))
        top = max(self._rates)
        trend = "".join(_BARS[round(rate / top * 8) if top else 0] for rate in self._rates)
        title = f"Penstock  {min(moment.elapsed, moment.seconds):.0f} of {moment.seconds:.0f} s"
        return Panel(Group(facts, Text(f"{trend} {top:,.0f}/s at most", "cyan")), title=title)


def line(moment: Moment) -> str:
    """The moment as one line, if there is no terminal."""
    return (
        f"{moment.elapsed:4.0f} s  published {moment.published:,}  "
        f"stored {moment.outcome('written'):,}  "
        f"duplicates {moment.outcome('duplicate'):,}  "
        f"dead letters {moment.outcome('rejected'):,}  "
        f"latency p50 {moment.p50_ms:.0f} ms p99 {moment.p99_ms:.0f} ms"
    )


def _flow(moment: Moment, rate: float) -> Table:
    total = moment.metrics.total
    lag = total("penstock_lag_pending") + total("penstock_lag_ack_pending")
    return _facts(
        ("published, confirmed", f"{moment.published:,}"),
        ("rate", f"{rate:,.0f} /s"),
        ("lag", f"{lag:,} messages"),
        ("latency, publish to commit", f"p50 {moment.p50_ms:.0f} ms, p99 {moment.p99_ms:.0f} ms"),
        ("stored", f"{moment.outcome('written'):,}"),
        ("duplicates, changed nothing", f"{moment.outcome('duplicate'):,}"),
        ("dead letters", f"{moment.outcome('rejected'):,}"),
        ("KV puts", f"{moment.metrics.total('penstock_kv_puts_total'):,}"),
    )


def _letters(moment: Moment) -> Table:
    counts = moment.metrics.by("penstock_rejected_total", "reason")
    return _counts("dead letters by reason", counts)


def _facts(*facts: tuple[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in facts:
        table.add_row(name, value)
    return table


def _counts(title: str, counts: Mapping[str, int]) -> Table:
    table = Table(title, "count", box=None, header_style="dim")
    table.columns[1].justify = "right"
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        if count:
            table.add_row(name, f"{count:,}")
    return table


def summary(
    console: Console,
    result: Mapping[str, float],
    counted: Counted,
    tables: Mapping[str, int],
    state: Mapping[str, Any],
) -> None:
    """Print the result: totals, rows of each table, dead letters, one agent's state in KV."""
    console.print()
    console.print(_facts(*((name, f"{value:,}") for name, value in result.items())))
    console.print()
    lists: Sequence[Table] = (
        _counts("rows in PostgreSQL", tables),
        _counts("dead letters by reason", counted.dead_letters),
    )
    console.print(Columns(lists, padding=(0, 6)))
    console.print()
    console.print("One agent's state, read back from the KV bucket:")
    for key, value in state.items():
        console.print(f"  {key} = {value}", markup=False, soft_wrap=True)


def landed(
    console: Console, answers: Mapping[str, Sequence[Mapping[str, Any]]], rows: Mapping[str, int]
) -> None:
    """Print the answers to queries under their headings, then the rows of each table."""
    for title, found in answers.items():
        table = Table(*(found[0] if found else ()), box=None, header_style="dim")
        for row in found:
            table.add_row(*("" if cell is None else str(cell) for cell in row.values()))
        console.print(f"\n{title}:", soft_wrap=True)
        console.print(table)
    console.print()
    console.print(_counts("rows in PostgreSQL", rows))


class Kept(msgspec.Struct, frozen=True):
    """What keeps running after the demo: addresses by name, and commands for a shell: those that
    look at the tables, and the one that ends it all.
    """

    places: Mapping[str, str]
    queries: Sequence[str]
    stop: str


def how_to_look(console: Console, kept: Kept) -> None:
    """Print all addresses, commands that show the tables, and the command that stops everything."""
    console.print()
    console.print("Everything keeps running:")
    for name, place in kept.places.items():
        console.print(f"  {name:10}  {place}", markup=False, soft_wrap=True)
    console.print("To look at the tables:")
    for query in kept.queries:
        console.print(f"  {query}", markup=False, soft_wrap=True)
    console.print(f"To stop and remove it:\n  {kept.stop}", markup=False, soft_wrap=True)
