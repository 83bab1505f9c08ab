"""Time, processor time and memory of processes, read from outside."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil  # type: ignore[import-untyped]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run. CPU is user and system time in microseconds an event.

    ``cpu`` is by process: `worker` and the servers. ``startup_s`` is from the start of the process
    to the commit of its first batch, where that was measured.
    """

    events: int
    seconds: float
    events_per_second: float
    cpu: dict[str, float]
    peak_mb: float
    startup_s: float | None = None


class Reading(NamedTuple):
    """Seconds of a clock, and CPU seconds by name."""

    at: float
    cpu: dict[str, float]


class Meter:
    """Reads what ``workers`` and the ``servers``, by their process ids, have used so far."""

    def __init__(self, workers: Sequence[int], servers: Mapping[str, int]) -> None:
        self._workers = [psutil.Process(pid) for pid in workers]
        self._servers = {name: psutil.Process(pid) for name, pid in servers.items()}

    def read(self) -> Reading:
        """Now. A server is counted with its children, ended ones too."""
        cpu = {"worker": sum(_own(process) for process in self._workers)}
        at = time.perf_counter()
        cpu.update({name: _tree(process) for name, process in self._servers.items()})
        return Reading(at, cpu)

    def peak_mb(self) -> float:
        """The greatest resident memory that a worker has had."""
        return max(_peak_mb(process.pid) for process in self._workers)

    def figures(self, begin: Reading, end: Reading, events: int) -> Figures:
        """What lies between two readings, in which ``events`` were drained."""
        seconds = end.at - begin.at
        used = {name: end.cpu[name] - begin.cpu[name] for name in end.cpu}
        return Figures(
            events=events,
            seconds=round(seconds, 3),
            events_per_second=round(events / seconds),
            cpu={name: round(spent / events * 1e6, 1) for name, spent in used.items()},
            peak_mb=round(self.peak_mb(), 1),
        )


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree(process: psutil.Process) -> float:
    """Of a server, its children, and those of its children that it has seen end."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # then its parent has it in its own times
            total += _own(child)
    return float(total)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
