"""Time, CPU time and memory of processes, measured from outside."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil  # type: ignore[import-untyped]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run. CPU is user and system time, in microseconds per event.

    ``cpu`` is by process: `worker` and the servers. ``startup_s`` is the time from the start of the
    process to the commit of its first batch, if that was measured.
    """

    events: int
    seconds: float
    events_per_second: float
    cpu: dict[str, float]
    peak_mb: float
    startup_s: float | None = None


class Reading(NamedTuple):
    """The time in seconds, and CPU seconds by name."""

    at: float
    cpu: dict[str, float]


class Meter:
    """Reads what ``workers`` and ``servers``, given by process id, have used so far."""

    def __init__(self, workers: Sequence[int], servers: Mapping[str, int]) -> None:
        self._workers = [psutil.Process(pid) for pid in workers]
        self._servers = {name: psutil.Process(pid) for name, pid in servers.items()}

    def read(self) -> Reading:
        """The values now. A server is counted with its children, including ended ones."""
        cpu = {"worker": sum(_own(process) for process in self._workers)}
        at = time.perf_counter()
        cpu.update({name: _tree(process) for name, process in self._servers.items()})
        return Reading(at, cpu)

    def peak_mb(self) -> float:
        """The largest resident memory of any worker so far."""
        return max(_peak_mb(process.pid) for process in self._workers)

    def figures(self, begin: Reading, end: Reading, events: int) -> Figures:
        """The figures between two readings, while ``events`` were drained."""
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
    """CPU seconds of a server and its children, including those that have ended."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # its parent's times include it then
            total += _own(child)
    return float(total)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
