"""The worker as users run it: a separate process, configured by its environment."""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from penstock.worker.embedded import EmbeddedServer

_JSON_LINE = b'{"'


class Samples:
    """Metrics at one moment."""

    def __init__(self, samples: Sequence[Sample] = ()) -> None:
        self._samples = samples

    def total(self, name: str, **labels: str) -> int:
        """The sum over all samples of a metric that have these labels."""
        return int(
            sum(
                found.value
                for found in self._samples
                if found.name == name and labels.items() <= found.labels.items()
            )
        )

    def by(self, name: str, label: str) -> dict[str, int]:
        """The sums for each value of a label."""
        sums: Counter[str] = Counter()
        for found in self._samples:
            if found.name == name:
                sums[found.labels[label]] += int(found.value)
        return dict(sums)


class WorkerProcess(EmbeddedServer):
    """``python -m penstock run`` with only ``settings`` as PENSTOCK_* variables.

    Leaving the context sends SIGTERM, which drains, unless ``outlive`` is set; `exit_code` is set
    afterwards. `address` is its HTTP address.
    """

    name = "worker"

    def __init__(self, settings: Mapping[str, str], *, outlive: bool = False) -> None:
        super().__init__(None, outlive=outlive)
        self._settings = {**settings, "http_port": "0", "log_format": "json"}
        self.address = ""

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    async def _start(self) -> None:
        inherited = {name: text for name, text in os.environ.items() if "PENSTOCK_" not in name}
        given = {f"PENSTOCK_{key.upper()}": text for key, text in self._settings.items()}
        environment = {**inherited, **given, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._spawn(sys.executable, "-m", "penstock", "run", environment=environment)
        await self._until_ready(self._answers)

    async def _answers(self) -> bool:
        """True once /readyz says so; the port is in the log."""
        for line in self.log.read_bytes().splitlines():
            if line.startswith(_JSON_LINE) and b'"health_served"' in line:
                served = msgspec.json.decode(line, type=dict[str, Any])
                self.address = f"http://127.0.0.1:{served['port']}"
        return bool(self.address) and (await self._get("/readyz"))[0] == HTTPStatus.OK

    async def metrics(self) -> Samples:
        """The worker's metrics; empty if it does not answer."""
        status, text = await self._get("/metrics")
        families = text_string_to_metric_families(text if status == HTTPStatus.OK else "")
        return Samples([sample for family in families for sample in family.samples])

    async def _get(self, path: str) -> tuple[int, str]:
        limit = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"{self.address}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""
