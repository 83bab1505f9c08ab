"""Brokers by name: what is loaded when, and what is said of a name that is none."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock import NatsOptions, Publisher, RabbitOptions
from penstock.worker.brokers.ports import BrokerModule, BucketModule, SenderModule
from penstock.worker.brokers.registry import BROKERS, broker_of, check_names
from penstock.worker.cli import main
from penstock.worker.errors import SettingsError
from penstock.worker.nats import broker as nats_broker
from penstock.worker.nats import sender as nats_sender
from penstock.worker.nats.kv import bucket
from penstock.worker.rabbitmq import broker as rabbitmq_broker
from penstock.worker.rabbitmq import sender as rabbitmq_sender

# What the registry takes on trust, as it loads modules by name: mypy compares the signatures here.
BROKER_MODULES: list[BrokerModule] = [nats_broker, rabbitmq_broker]
SENDER_MODULES: list[SenderModule] = [nats_sender, rabbitmq_sender]
BUCKET_MODULE: BucketModule = bucket

WORKER = Path(__file__).parents[3] / "worker"
KNOW_THEIR_NAMES = ("nats", "rabbitmq", "settings", "embedded", "demo")
DRIVERS = ("aio_pika", "aiormq", "asyncpg", "nats")


def python(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def penstock(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    "command",
    ["run", "publish -", "provision", "hydrate", "doctor", "events", "config", "migrate status"],
)
def test_every_command_refuses_a_broker_that_is_none(command: str) -> None:
    result = penstock(*command.split(), "--brokers", "nats,rabbitnq")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: brokers = 'rabbitnq': no such broker; "
        "known are nats, rabbitmq; did you mean rabbitmq?\n"
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "brokers is empty: name one or more of nats, rabbitmq"),
        (("nats", "nats"), "brokers = 'nats,nats': nats is named twice"),
        (("kafka",), "brokers = 'kafka': no such broker"),
    ],
)
def test_names_that_make_no_sense(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_names(names)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("nats://h:4222", "nats"),
        ("tls://h", "nats"),
        ("nats://a:1, nats://b:2", "nats"),
        ("localhost:4222", "nats"),
        ("amqp://u:p@h/v", "rabbitmq"),
        ("amqps://h", "rabbitmq"),
    ],
)
def test_the_scheme_of_an_address_names_the_broker(url: str, name: str) -> None:
    assert broker_of(url) == name


def test_a_publisher_refuses_an_address_of_no_broker() -> None:
    with pytest.raises(SettingsError, match=r"amq:// addresses; .* nats, .*did you mean amqp\?"):
        Publisher("amq://user:s3cret@host", source="/test")
    assert NatsOptions.broker in BROKERS
    assert RabbitOptions.broker in BROKERS


def test_a_client_that_is_not_installed_is_missed_when_its_broker_is_used() -> None:
    said = python(
        "import sys\n"
        "sys.modules['aio_pika'] = None\n"
        "from penstock.worker.brokers import registry\n"
        "from penstock.worker.errors import SettingsError\n"
        "registry.broker_module('nats'), registry.sender_module('nats')\n"
        "for load in (registry.broker_module, registry.sender_module):\n"
        "    try:\n"
        "        load('rabbitmq')\n"
        "    except SettingsError as error:\n"
        "        print(error)\n"
    )
    wanted = "RabbitMQ needs aio_pika, which is not installed: `pip install aio-pika`"
    assert said.splitlines() == [wanted, wanted]


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("from penstock.worker.brokers import registry; registry.sender_module('nats')", ("nats",)),
        (
            "from penstock.worker.brokers import registry; registry.sender_module('rabbitmq')",
            ("aio_pika", "aiormq"),
        ),
        ("import penstock.worker.cli", ("click",)),
    ],
)
def test_no_client_is_loaded_before_its_broker_is_opened(
    program: str, allowed: tuple[str, ...]
) -> None:
    found = python(f"{program}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})")
    heavy = {*DRIVERS, "click", "prometheus_client"}
    assert heavy & set(found.split()) == set(allowed)


def test_importing_a_room_leaves_the_clients_as_they_were() -> None:
    """Importing must not change what other users of the same client in the process see."""
    changed = python(
        "import sys, pkgutil, importlib\n"
        f"for driver in {DRIVERS}: importlib.import_module(driver)\n"
        "import nats.aio.client, nats.js, nats.protocol.parser, asyncpg.pool, aiormq.connection\n"
        "def seen():\n"
        "    for name, module in list(sys.modules.items()):\n"
        f"        if name.split('.')[0] in {DRIVERS}:\n"
        "            for key, value in list(vars(module).items()):\n"
        "                if not key.startswith('__') and not hasattr(value, '__path__'):\n"
        "                    yield (name, key), value\n"
        "                if isinstance(value, type) and value.__module__ == name:\n"
        "                    for inner, member in list(vars(value).items()):\n"
        "                        if not inner.startswith('_abc_'):\n"
        "                            yield (name, key, inner), member\n"
        "before = dict(seen())\n"
        "import penstock.worker as worker\n"
        "for found in pkgutil.walk_packages(worker.__path__, 'penstock.worker.'):\n"
        "    importlib.import_module(found.name)\n"
        "after = dict(seen())\n"
        "print([key for key, value in before.items() if after.get(key) is not value])\n"
    )
    assert changed == "[]"


def outside() -> list[Path]:
    """Modules of the worker that must not know which brokers there are."""
    return [
        path
        for path in sorted(WORKER.rglob("*.py"))
        if path.relative_to(WORKER).parts[0] not in KNOW_THEIR_NAMES
        and path != WORKER / "brokers" / "registry.py"
    ]


def test_nothing_outside_asks_which_broker_it_is() -> None:
    found = [
        f"{path.relative_to(WORKER)}: {ast.unparse(node)}"
        for path in outside()
        for node in ast.walk(ast.parse(path.read_text()))
        if names_a_broker(node)
    ]
    assert found == []


def names_a_broker(node: ast.AST) -> bool:
    """Compares with a broker's name, has no other keys, or imports its room."""
    if isinstance(node, ast.Compare | ast.MatchValue | ast.Subscript):
        return any(name in BROKERS for name in constants(ast.walk(node)))
    if isinstance(node, ast.Dict):  # AsyncAPI's own words are "nats" beside "amqp"
        keys = constants(node.keys)
        return bool(keys) and all(key in BROKERS for key in keys)
    module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return module.startswith(tuple(f"penstock.worker.{name}." for name in BROKERS))


def constants(parts: Iterable[ast.AST | None]) -> list[object]:
    return [part.value for part in parts if isinstance(part, ast.Constant)]


def test_an_agent_loads_none_of_what_a_worker_needs() -> None:
    found = python(
        "import penstock; [getattr(penstock, name) for name in penstock.__all__]\n"
        "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    )
    assert not {*DRIVERS, "aiohttp", "click", "rich", "structlog", "tenacity"} & set(found.split())
