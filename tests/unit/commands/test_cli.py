"""The command line as somebody types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock import __version__
from penstock.worker.cli import main
from penstock.worker.settings.keys import SETTINGS
from penstock.worker.settings.sources import flag

WITH_SETTINGS = (
    ["run"],
    ["publish"],
    ["provision"],
    ["hydrate"],
    ["doctor"],
    ["events"],
    ["config"],
    ["migrate", "up"],
    ["migrate", "down"],
    ["migrate", "status"],
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def penstock(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", WITH_SETTINGS, ids=" ".join)
def test_help_lists_every_setting_with_its_default(command: list[str]) -> None:
    text = penstock(*command, "--help").output
    words = " ".join(text.split())
    for setting in SETTINGS.values():
        assert f"{flag(setting.key)} " in text
        assert setting.about in words
        if setting.default_text:
            assert f"[default: {setting.default_text}]" in words


def test_help_names_every_command() -> None:
    text = penstock("--help").output
    for name in ("run", "demo", "publish", "migrate", "provision", "hydrate", "events", "doctor"):
        assert f"\n  {name} " in text


def test_a_flag_after_the_command_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_BATCH_SIZE", "5")
    shown = penstock("config", "--batch-size", "6", "--no-provision", "--migrate").stdout
    assert "batch_size = 6\n" in shown
    assert "provision = false\n" in shown
    assert "migrate = true\n" in shown


def test_a_named_file_counts(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("batch_size = 9\nmigrate = true\n")
    shown = penstock("config", "--config", "mine.toml").stdout
    assert "batch_size = 9\n" in shown
    assert "migrate = true\n" in shown


def test_config_hides_secrets() -> None:
    shown = penstock("config", "--postgres-dsn", "postgresql://me:s3cret@db/penstock").stdout
    assert "s3cret" not in shown
    assert "@db/penstock" in shown


def test_the_example_is_printed() -> None:
    assert "# batch_size = 5000\n" in penstock("config", "--format", "example").stdout


@pytest.mark.parametrize("command", ["run", "provision", "hydrate", "doctor", "events"])
def test_a_wrong_setting_is_said_without_a_traceback(command: str) -> None:
    result = penstock(command, "--batch-size", "many")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: batch_size = 'many' (command line, --batch-size): "
        "expected a whole number from 1 to 50000\n"
    )


def test_a_misspelt_flag_gets_a_suggestion() -> None:
    result = penstock("run", "--btach-size", "1")
    assert result.exit_code == 2
    assert "--batch-size" in result.stderr


@pytest.mark.parametrize("package", ["not_there", "not.there", "json.not_there"])
def test_an_event_package_that_python_does_not_find_is_named(package: str) -> None:
    result = penstock("events", "--event-packages", package)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: event_packages = '{package}'")
    assert "PYTHONPATH" in result.stderr


def test_an_event_package_that_contradicts_the_catalogue_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "again.py").write_text(
        "from penstock.schemas.event import EventData\n"
        "from penstock.schemas.identity import TaskId\n"
        "from penstock.schemas.mapping import Log, event\n"
        "@event('tasks.created', key='task_id', history=Log('tasks'))\n"
        "class Again(EventData):\n"
        "    task_id: TaskId\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = penstock("events", "--event-packages", "again")
    assert result.exit_code == 2
    assert result.stderr == "Error: tasks.created is declared twice\n"


def test_new_writes_a_pair_of_migrations(tmp_path: Path) -> None:
    result = penstock("migrate", "new", "add shoe size", "--folder", "sql")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "sql").iterdir()) == [
        "0001_add_shoe_size.down.sql",
        "0001_add_shoe_size.up.sql",
    ]


def test_a_server_that_is_away_is_an_error_of_ours() -> None:
    result = penstock("migrate", "status", "--postgres-dsn", "postgresql://127.0.0.1:1/penstock")
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ")


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"penstock, version {__version__}\n"


def test_help_loads_no_driver() -> None:
    code = (
        "import sys, penstock.worker.cli\n"
        "drivers = {'nats', 'asyncpg', 'aiohttp', 'rich', 'structlog'}\n"
        "print(drivers & sys.modules.keys() or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"
