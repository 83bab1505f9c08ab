"""A private RabbitMQ node from Debian's package ``rabbitmq-server``.

It has its own home, cookie, name, ports and epmd, all on the loopback interface, so it neither sees
nor disturbs another node on the machine. It runs as the user who starts it.
"""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from penstock.worker.embedded.server import EmbeddedServer, ServerFailed

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_GREETING = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
_ANSWER_SECONDS = 2.0
_COMMAND_SECONDS = 60.0

_SETTINGS: Mapping[str, str] = {
    "disk_free_limit.absolute": "50MB",
    "vm_memory_high_watermark.relative": "0.4",
    "raft.wal_max_size_bytes": "64000000",
    "log.file.level": "warning",
    "handshake_timeout": "60000",
}


# A node among others on the machine: its schedulers do not spin while they wait for work.
_ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"


class EmbeddedRabbit(EmbeddedServer):
    """A RabbitMQ node. ``settings`` are added to its ``rabbitmq.conf``.

    The user ``guest`` with the password ``guest`` may do everything. Raises ServerFailed if the
    package is not installed.
    """

    name = "rabbitmq"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        outlive: bool = False,
    ) -> None:
        super().__init__(folder, outlive=outlive)
        spare = _free_ports(3)
        self.port = port or spare[0]
        self._dist_port, self._epmd_port = spare[1:]
        self._settings = {**_SETTINGS, **(settings or {})}
        self._programs = Path()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this node. Returns its output. Raises ServerFailed."""
        process = await asyncio.create_subprocess_exec(
            self._programs / "rabbitmqctl",
            "--quiet",
            *arguments,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _COMMAND_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise ServerFailed(f"rabbitmqctl {arguments[0]}: {output.decode(errors='replace')}")
        return output.decode()

    async def _prepare(self) -> None:
        self._programs = rabbitmq_programs()
        lines = [f"{key} = {value}\n" for key, value in self._settings.items()]
        (self.folder / "rabbitmq.conf").write_text("".join(lines))
        (self.folder / "plugins").write_text("[].\n")

    async def _start(self) -> None:
        # The shell becomes the node; epmd is its child and dies with it.
        script = 'setpriv --pdeathsig KILL epmd -port "$ERL_EPMD_PORT" & exec "$0" -noinput'
        server = self._programs / "rabbitmq-server"
        self._spawn("/bin/sh", "-c", script, server, environment=self._environment())
        await self._until_ready(self._answers)

    async def _stop(self) -> None:
        """End the node, and then its epmd, which nothing else ends."""
        tree = []
        with contextlib.suppress(ServerFailed, psutil.NoSuchProcess):
            tree = self._tree()
        await super()._stop()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, tree, timeout=_ANSWER_SECONDS)

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"penstock{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ALLOW_INPUT": "1",  # without it a shell stays between us and the node
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }

    async def _answers(self) -> bool:
        """True once it answers the greeting with a method; it opens its port last."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(_GREETING)
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await reader.read(1) == _METHOD_FRAME
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()


def rabbitmq_programs() -> Path:
    """The folder of the programs in Debian's package. Raises ServerFailed."""
    if not (_PROGRAMS / "rabbitmq-server").exists() or shutil.which("epmd") is None:
        raise ServerFailed("RabbitMQ is not installed: apt-get install rabbitmq-server")
    return _PROGRAMS


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
