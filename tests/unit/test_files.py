"""The files beside the code: containers, server configuration, packaging.

No container engine is needed, so images are not built here. `docker compose config` reads the
compose file where the client has that command; elsewhere that one test is skipped and says so.
"""

import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import entry_points
from importlib.metadata import version as installed
from itertools import chain
from pathlib import Path

import pytest

from penstock import __version__
from penstock.worker.embedded import nats_server
from penstock.worker.settings.keys import SETTINGS, load
from penstock.worker.settings.sources import variable

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def services() -> dict[str, str]:
    """The text of every service of the compose file, which is indented by two spaces."""
    inside = COMPOSE.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    parts = re.split(r"^  (\w+):\n", inside, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def has_compose() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


def test_compose_has_the_servers_and_each_has_a_health_check() -> None:
    assert set(services()) == {"postgres", "nats", "rabbitmq", "worker"}
    for name, text in services().items():
        assert "healthcheck:" in text, name


@pytest.mark.skipif(not has_compose(), reason="not run: docker has no compose command here")
def test_compose_file_is_valid() -> None:
    subprocess.run(
        ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "-q"], check=True
    )


def test_every_setting_in_the_compose_file_exists_and_is_right() -> None:
    found = dict(re.findall(r"^ +(PENSTOCK_\w+): (.+)$", services()["worker"], re.MULTILINE))
    assert {"PENSTOCK_POSTGRES_DSN", "PENSTOCK_NATS_URL", "PENSTOCK_MIGRATE"} <= set(found)
    settings = load({}, {name: value.strip('"') for name, value in found.items()})
    assert settings.migrate


def test_every_setting_in_the_dockerfile_exists() -> None:
    assert set(re.findall(r"PENSTOCK_\w+", DOCKERFILE)) <= {variable(key) for key in SETTINGS}


def test_no_password_of_the_compose_file_is_fixed() -> None:
    for name, value in re.findall(r"^ +(\w*PASS\w*): (.+)$", COMPOSE, re.MULTILINE):
        assert re.fullmatch(r"\$\{\w+:-dev-only-\w+\}", value), name
    assert ":${POSTGRES_PASSWORD:-dev-only-postgres}@" in services()["worker"]


def test_every_port_of_the_compose_file_is_on_the_loopback() -> None:
    ports = re.findall(r"ports: \[(.+)\]", COMPOSE)
    assert ports
    for port in ", ".join(ports).split(", "):
        assert port.startswith('"127.0.0.1:')


def test_the_worker_has_longer_to_stop_than_it_takes() -> None:
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", services()["worker"])
    assert int(grace) > load({}, {}).drain_timeout


def test_the_image_does_not_run_as_root() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001", final, re.MULTILINE)
    assert "-c constraints.txt" in DOCKERFILE


def test_the_image_gets_what_the_package_is_made_of() -> None:
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    linked = {file.readlink().name for file in (ROOT / "penstock").iterdir() if file.is_symlink()}
    needed = {*wheel["packages"], *linked, "pyproject.toml", "constraints.txt"}
    assert needed <= set(allowed)


def test_nats_accepts_its_configuration_and_syncs_always() -> None:
    path = ROOT / "deploy" / "nats.conf"
    checked = subprocess.run(
        [nats_server(), "-t", "-c", path],
        env={**os.environ, "NATS_PASSWORD": "any"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    settings = re.sub(r"#.*", "", path.read_text())
    assert "sync_interval: always" in settings
    assert "max_payload: 8MB" in settings


def test_the_version_is_the_same_everywhere() -> None:
    assert PYPROJECT["project"]["version"] == __version__ == installed("penstock")


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="penstock")
    assert command.value == "penstock.worker.cli:main"


def test_constraints_pin_every_dependency() -> None:
    project = PYPROJECT["project"]
    wanted = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line}
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in wanted} - {"penstock"}
    assert {name.replace("-", "_") for name in names} <= {n.replace("-", "_") for n in pinned}
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)


@pytest.mark.parametrize(
    ("line", "way"),
    [
        ("global.index-url='https://example.com/simple'", "pip"),
        ("global.extra-index-url='https://example.com/simple'", "pip"),
        (":env:.find-links='/opt/wheels'", "pip"),
        (":env:.no-index='1'", "pip"),
        ("install.proxy='http://example.com:3128'", "pip"),
        ("global.cert='/etc/index/ca.pem'", "uv"),
        (":env:.disable-pip-version-check='1'", "uv"),
    ],
)
def test_packages_come_from_where_pip_is_told_to_look(line: str, way: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    [pattern] = re.findall(r"^PIP_ONLY := (.+)$", makefile, re.MULTILINE)
    found = subprocess.run(["grep", "-Eq", pattern], input=line, text=True, check=False)
    assert way == ("uv" if found.returncode else "pip")


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "exec make test"
