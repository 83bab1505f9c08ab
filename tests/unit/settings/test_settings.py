"""Settings: what an operator writes, and what is said about mistakes."""

import tomllib
from pathlib import Path

import pytest

from penstock.worker.cli import main
from penstock.worker.errors import SettingsError
from penstock.worker.settings import text as config_text
from penstock.worker.settings.declared import Setting
from penstock.worker.settings.keys import SETTINGS, load
from penstock.worker.settings.kinds import Kind, duration, duration_text, size, size_text, whole
from penstock.worker.settings.sections import Section

SECRET = "s3cret"


def problems(
    flags: dict[str, str | None] | None = None,
    environ: dict[str, str] | None = None,
    toml: Path | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags or {}, environ or {}, toml)
    return str(caught.value).splitlines()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text('batch_size = 10\nlinger = "20ms"\nstreams = ["AGENTS", "TASKS"]\n')
    return path


def test_without_anything_every_setting_has_its_default() -> None:
    settings = load({}, {})
    assert settings.batch_size == 5000
    assert settings.linger == 0.005
    assert settings.stream_max_age == 7 * 86400
    assert settings.nats_user is None
    assert settings.worker_id


@pytest.mark.usefixtures("toml")
def test_flag_beats_environment_beats_file() -> None:
    environ = {"PENSTOCK_BATCH_SIZE": "20", "PENSTOCK_IN_FLIGHT": "4"}
    settings = load({"in_flight": "5", "pool_size": None}, environ)
    assert (settings.batch_size, settings.in_flight, settings.linger) == (20, 5, 0.02)
    assert settings.streams == ("AGENTS", "TASKS")
    assert settings.pool_size == 8


def test_the_file_may_be_named(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text("batch_size = 1")
    two.write_text("batch_size = 2")
    environ = {"PENSTOCK_CONFIG": str(one)}
    assert load({}, environ).batch_size == 1
    assert load({}, environ, two).batch_size == 2


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    (message,) = problems(toml=tmp_path / "absent.toml")
    assert "absent.toml" in message


def test_a_broken_file_is_named_with_the_line(toml: Path) -> None:
    toml.write_text("batch_size = 1\nlinger = = 2\n")
    (message,) = problems()
    assert "penstock.toml" in message
    assert "line 2" in message


def test_everything_that_is_wrong_is_said_at_once(toml: Path) -> None:
    toml.write_text("batch_size = 0\nbatch_sice = 5\n")
    found = problems({"linger": "5 parsec"}, {"PENSTOCK_BTACH_BYTES": "1", "PENSTOCK_MIGRATE": "?"})
    assert found == [
        "batch_sice (penstock.toml): unknown setting; did you mean batch_size?",
        "PENSTOCK_BTACH_BYTES (environment): unknown setting; did you mean PENSTOCK_BATCH_BYTES?",
        "batch_size = 0 (penstock.toml): expected a whole number from 1 to 50000",
        "migrate = '?' (environment, PENSTOCK_MIGRATE): expected true or false",
        (
            "linger = '5 parsec' (command line, --linger): "
            "expected a duration from 0s to 1m, such as 250ms, 5s, 2h or 90d"
        ),
    ]


def test_a_key_like_no_other_gets_no_guess() -> None:
    (message,) = problems(environ={"PENSTOCK_XYZZY": "1"})
    assert "unknown setting" in message
    assert "did you mean" not in message


def test_variables_that_are_not_settings_are_left_alone() -> None:
    load(
        {},
        {
            "PENSTOCK_TEST_NATS_URL": "nats://x",
            "PENSTOCK_CONFIG": "",
            "PENSTOCK_PORT": "tcp://10.0.0.1:8080",
            "PENSTOCK_PORT_8080_TCP_ADDR": "10.0.0.1",
            "PENSTOCK_SERVICE_HOST": "10.0.0.1",
            "PENSTOCK_SERVICE_PORT_HTTP": "8080",
            "PENSTOCK_NATS_USER": "",
            "PATH": "/bin",
        },
    )


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    environ = {"PENSTOCK_NATS_USER": "u", "PENSTOCK_NATS_PASSWORD_FILE": str(file)}
    assert load({}, environ).nats_password == SECRET
    assert load({"nats_password_file": str(file), "nats_user": "u"}, {}).nats_password == SECRET
    (tmp_path / "penstock.toml").write_text(f'nats_token_file = "{file}"')
    assert load({}, {}).nats_token == SECRET


def test_a_stronger_secret_beats_a_weaker_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("weaker")
    (tmp_path / "penstock.toml").write_text(f'nats_token_file = "{file}"')
    assert load({}, {"PENSTOCK_NATS_TOKEN": "stronger"}).nats_token == "stronger"


def test_a_secret_and_its_file_together_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    environ = {"PENSTOCK_NATS_TOKEN": SECRET, "PENSTOCK_NATS_TOKEN_FILE": str(file)}
    assert problems(environ=environ) == [
        "PENSTOCK_NATS_TOKEN and PENSTOCK_NATS_TOKEN_FILE (environment): give only one of them"
    ]


@pytest.mark.parametrize("content", [None, ""])
def test_a_secret_file_that_gives_nothing_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    (message,) = problems({"nats_token_file": str(file)})
    assert "--nats-token-file" in message
    assert str(file) in message


def test_only_secrets_have_a_file() -> None:
    (message,) = problems(environ={"PENSTOCK_BATCH_SIZE_FILE": "x"})
    assert "did you mean PENSTOCK_BATCH_SIZE?" in message


def test_a_wrong_secret_is_not_repeated() -> None:
    found = problems(
        {"postgres_dsn": f"mysql://u:{SECRET}@h/d"}, {"PENSTOCK_NATS_URL": f"http://{SECRET}@h"}
    )
    assert len(found) == 2
    assert SECRET not in "".join(found)
    assert "postgresql://user@host:port/database" in found[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"batch_size": "20000"}, "max_ack_pending = 50000 is less than batch_size = 20000 times"),
        ({"heartbeat": "20s"}, "ack_wait = 30s is less than 3 times heartbeat = 20s"),
        ({"max_event_bytes": "9MiB"}, "max_event_bytes = 9MiB is more than batch_bytes = 8MiB"),
        ({"lock_timeout": "1m"}, "lock_timeout = 1m is more than statement_timeout = 30s"),
        ({"nats_user": "u"}, "nats_user and nats_password are needed together"),
        ({"nats_user": "u", "nats_password": "p", "nats_token": "t"}, "nats_user and nats_token"),
    ],
)
def test_settings_that_contradict_each_other(flags: dict[str, str | None], said: str) -> None:
    (message,) = problems(flags)
    assert message.startswith(said)


def test_window_past_is_a_word_or_a_duration() -> None:
    assert load({"window_past": "unlimited"}, {}).window_past == "unlimited"
    assert load({"window_past": "90d"}, {}).window_past == 90 * 86400.0
    (message,) = problems({"window_past": "always"})
    assert "retention, unlimited, or a duration" in message


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (duration(), "250ms", 0.25),
        (duration(), "1.5h", 5400),
        (duration(), "5", 5),
        (duration(), 0.5, 0.5),
        (size(), "8MiB", 8 * 2**20),
        (size(), "1.5KiB", 1536),
        (size(), 7, 7),
        (whole(-1, 9), "-1", -1),
    ],
)
def test_quantities_are_understood(kind: Kind, raw: object, value: float) -> None:
    assert kind.parse(raw) == value


@pytest.mark.parametrize("raw", ["", "5 years", "-1s", "1e3", "nan", "5MiB", True, None, [], {}])
def test_what_is_no_duration_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r".*"):
        duration().parse(raw)


@pytest.mark.parametrize("raw", ["", "x", "10", "1.5", 1.0, True, None, []])
def test_what_is_no_whole_number_in_range_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r".*"):
        whole(0, 9).parse(raw)


@pytest.mark.parametrize("seconds", [0, 0.0015, 0.005, 0.25, 1, 90, 300, 5400, 86400, 90 * 86400])
def test_a_written_duration_reads_back(seconds: float) -> None:
    assert duration().parse(duration_text(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("count", [0, 1, 1000, 1024, 1536, 2**20, 3 * 2**40])
def test_a_written_size_reads_back(count: int) -> None:
    assert size().parse(size_text(count)) == count


def test_effective_settings_read_back_and_hide_secrets() -> None:
    flags: dict[str, str | None] = {
        "postgres_dsn": f"postgresql://me:{SECRET}@db/penstock?password={SECRET}&sslmode=require",
        "nats_url": f"nats://{SECRET}@one:4222,nats://u:{SECRET}@two:4222",
        "nats_token": SECRET,
        "batch_size": "77",
        "event_packages": "json, penstock.schemas.event",
    }
    text = config_text.effective(load(flags, {}))
    assert SECRET not in text
    shown = tomllib.loads(text)
    assert shown["postgres_dsn"] == "postgresql://***@db/penstock?password=***&sslmode=require"
    assert shown["nats_url"] == "nats://***@one:4222,nats://***@two:4222"
    assert shown["batch_size"] == 77
    assert shown["event_packages"] == ["json", "penstock.schemas.event"]


def test_the_example_file_is_current_and_holds_the_defaults(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "penstock.example.toml"
    assert example.read_text() == config_text.example(), (
        "run: penstock config --format example > penstock.example.toml"
    )
    used = [line.removeprefix("# ") for line in example.read_text().splitlines() if " = " in line]
    uncommented = tmp_path / "uncommented.toml"
    uncommented.write_text("\n".join(line for line in used if not line.startswith("A secret")))
    assert list(tomllib.loads(uncommented.read_text())) == list(SETTINGS)
    assert load({}, {}, uncommented) == load({}, {})


def test_the_table_names_every_setting() -> None:
    rows = [line for line in config_text.markdown().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(SETTINGS)


def test_every_section_is_one_piece_and_none_is_empty() -> None:
    assert [title for title, _ in config_text.sections()] == list(Section)


def test_every_setting_is_shown_by_commands_that_exist() -> None:
    known = {*main.commands}
    for setting in SETTINGS.values():
        assert setting.commands <= known, setting.key
        assert setting.about.endswith("."), setting.key
        assert setting.shown_by("config")


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_word_that_a_shell_completes_is_a_value(setting: Setting) -> None:
    for word in setting.kind.words:
        setting.kind.parse(word)
        assert word in setting.kind.placeholder or "," in word


@pytest.mark.parametrize(
    ("raw", "value"), [("auto", "auto"), ("8081", 8081), (8081, 8081), ("-1", -1), ("0", 0)]
)
def test_a_port_is_a_number_or_auto(raw: str | int, value: object) -> None:
    assert SETTINGS["http_port"].kind.parse(raw) == value
