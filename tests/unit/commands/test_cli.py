"""The command line as somebody types it."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock import __version__
from penstock.worker.cli import main
from penstock.worker.settings.keys import SETTINGS
from penstock.worker.settings.sections import Section
from penstock.worker.settings.sources import flag

WITH_SETTINGS = (
    ["run"],
    ["publish"],
    ["provision"],
    ["hydrate"],
    ["replay"],
    ["doctor"],
    ["events"],
    ["config"],
    ["verify"],
    ["state", "get"],
    ["state", "restore"],
    ["migrate", "up"],
    ["migrate", "down"],
    ["migrate", "status"],
)

_ARGUMENTS = {"publish": 1, "get": 1, "restore": 2}
"""How many a command must have."""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def penstock(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def shown(text: str) -> dict[str, list[str]]:
    """The flags that a help shows, by heading."""
    sections = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^  (--[\w-]+)", body, re.MULTILINE)
        for title, body in zip(sections[::2], sections[1::2], strict=True)
    }


def flags_of(section: Section, command: str) -> list[str]:
    """The flags that the help of a command has to show under a heading."""
    settings = [s for s in SETTINGS.values() if s.section is section and s.shown_by(command)]
    both = [[flag(s.key), f"{flag(s.key)}-file"] if s.secret else [flag(s.key)] for s in settings]
    return list(chain.from_iterable(both))


@pytest.mark.parametrize("command", WITH_SETTINGS, ids=" ".join)
def test_help_shows_the_settings_of_the_command_by_section(command: list[str]) -> None:
    text = penstock(*command, "--help").output
    expected = {str(section): flags_of(section, command[0]) for section in Section}
    found = shown(text)
    assert "--config" in found.pop("Options")
    assert found == {title: flags for title, flags in expected.items() if flags}
    assert "`penstock config --help`" in " ".join(text.split())


def test_config_help_shows_every_setting_with_choices_and_default() -> None:
    text = penstock("config", "--help").output
    words = " ".join(text.split())
    for setting in SETTINGS.values():
        assert f"{flag(setting.key)} " in text
        assert setting.about in words
        if setting.default_text:
            assert f"[default: {setting.default_text}]" in words
    assert "--rabbitmq-queue-type [quorum|classic|stream]" in text
    assert "--window-past [retention|unlimited|DURATION]" in text


@pytest.mark.parametrize("command", WITH_SETTINGS, ids=" ".join)
def test_help_is_short(command: list[str]) -> None:
    """What only `run` needs is in its help alone."""
    if command[0] in ("run", "config"):
        return
    text = penstock(*command, "--help").output
    assert "--batch-size" not in text
    assert "--http-port" not in text


@pytest.mark.parametrize("command", WITH_SETTINGS, ids=" ".join)
def test_every_command_accepts_every_setting(command: list[str]) -> None:
    """Shown or not: one wrong value is what each of them stops at."""
    arguments = ["-", "-"][: _ARGUMENTS.get(command[-1], 0)]
    for setting in SETTINGS.values():
        if setting.secret or isinstance(setting.default, bool):
            continue
        result = penstock(*command, *arguments, flag(setting.key), "\0", "--ack-wait", "never")
        assert result.exit_code == 2
        assert "ack_wait = 'never'" in result.stderr, setting.key


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(("penstock", *words))
    done = subprocess.run(
        [sys.executable, "-m", "penstock"],
        env={
            **os.environ,
            "_PENSTOCK_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [offer.partition(",")[2] for offer in done.stdout.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_completion_script(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock"],
        env={**os.environ, "_PENSTOCK_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_PENSTOCK_COMPLETE" in done.stdout
    assert f"{shell}_complete" in done.stdout


def test_completion_knows_commands_flags_and_choices() -> None:
    assert {"run", "migrate"} <= set(completed(""))
    assert completed("migrate", "s") == ["status"]
    assert completed("run", "--batch") == ["--batch-size", "--batch-bytes"]
    assert completed("provision", "--batch") == []
    assert completed("run", "--rabbitmq-queue-type", "") == ["quorum", "classic", "stream"]
    assert completed("run", "--source-path", "") == ["fast", "client"]
    assert completed("run", "--brokers", "") == ["nats", "rabbitmq", "nats,rabbitmq"]
    assert completed("run", "--log-level", "w") == ["warning"]
    assert completed("run", "--window-past", "") == ["retention", "unlimited"]
    assert completed("events", "--format", "j") == ["json-schema"]


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
