"""What the operator reads, on a terminal and in a file; and what the environment may say."""

from __future__ import annotations

import io
import logging
import re
import runpy
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llamaproxy.env import _write_once, env_bool, env_list, secret_key
from supervisor_app.common import console
from supervisor_app.common.console import ConsoleFormatter, ConsoleHandler
from tests.deadline import DEADLINE

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(message="Hello", level=logging.INFO, **extra):
    made = logging.LogRecord("supervisor_app", level, __file__, 1, message, (), None)
    made.__dict__.update(extra)
    return made


def written(stream, *records):
    handler = ConsoleHandler()
    handler.setFormatter(ConsoleFormatter())
    handler.stream = stream
    for one in records:
        handler.emit(one)
    return re.sub(r"\d\d:\d\d:\d\d ", "", stream.getvalue())


# --- What is quoted ---


def test_no_secret_is_shown_and_no_terminal_obeys_what_a_message_quotes():
    said = ConsoleFormatter().format(record("It said \x1b]52;c;AAAA\x07, run with --api-key swordfish"))
    assert said.endswith(r"It said \x1b]52;c;AAAA\x07, run with --api-key [redacted]")


# --- One line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "word"),
    [
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "CRITICAL"),
    ],
)
def test_a_line_has_time_level_and_words(level, word):
    assert re.fullmatch(rf"\d\d:\d\d:\d\d \[{word}\] Hello", ConsoleFormatter().format(record(level=level)))


def test_a_server_is_named_unless_it_is_the_default():
    assert ConsoleFormatter().format(record(server="gpu")).endswith("[INFO] [gpu] Hello")
    assert ConsoleFormatter().format(record(server="default")).endswith("[INFO] Hello")


def test_an_exception_comes_with_its_traceback():
    try:
        raise ValueError("inside")
    except ValueError:
        failed = record(exc_info=sys.exc_info())
    assert "ValueError: inside" in ConsoleFormatter().format(failed)


def test_other_handlers_get_the_record_as_it_was():
    warning = record(level=logging.WARNING)
    ConsoleFormatter().format(warning)
    assert warning.levelname == "WARNING"
    assert not hasattr(warning, "about")


# --- Progress ------------------------------------------------------------------------------------------


def progress(percent):
    return record(f"{percent} %", transient=True)


def test_on_a_terminal_progress_is_written_over_itself():
    said = written(Terminal(), progress(1), progress(2), record("done"), record("next"))
    assert said == "[INFO] 1 %\r\x1b[K[INFO] 2 %\r\x1b[K[INFO] done\n[INFO] next\n"


def test_elsewhere_progress_is_a_line_now_and_then(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    stream = io.StringIO()
    handler = ConsoleHandler()
    handler.stream = stream
    for step in range(25):
        now = 1000.0 + step
        handler.emit(progress(step))
        handler.emit(record(f"line {step}"))
    assert [line for line in stream.getvalue().splitlines() if "%" in line] == ["0 %", "10 %", "20 %"]
    assert stream.getvalue().count("line") == 25, "everything else is always said"


def test_the_console_is_standard_error():
    assert ConsoleHandler().stream is sys.stderr


# --- Environment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true", "True", "YES", "on"])
def test_a_yes_is_understood(value, monkeypatch):
    monkeypatch.setenv("FLAG", value)
    assert env_bool("FLAG", False) is True


@pytest.mark.parametrize("value", ["0", "false", "No", "OFF", ""])
def test_a_no_is_understood(value, monkeypatch):
    monkeypatch.setenv("FLAG", value)
    assert env_bool("FLAG", True) is False


@pytest.mark.parametrize("default", [True, False])
def test_a_variable_that_is_not_set_has_its_default(default, monkeypatch):
    monkeypatch.delenv("FLAG", raising=False)
    assert env_bool("FLAG", default) is default


@pytest.mark.parametrize("value", ["maybe", "2", " ", "y", "-1"])
def test_neither_yes_nor_no_is_named(value, monkeypatch):
    monkeypatch.setenv("FLAG", value)
    with pytest.raises(ImproperlyConfigured) as raised:
        env_bool("FLAG", False)
    assert str(raised.value) == f"FLAG={value!r} is not a yes or no. Use 1 or 0."


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ["default"]), ("", []), ("a", ["a"]), ("a, b ,,c,", ["a", "b", "c"])],
)
def test_a_list_is_comma_separated(value, expected, monkeypatch):
    monkeypatch.delenv("LIST", raising=False)
    if value is not None:
        monkeypatch.setenv("LIST", value)
    assert env_list("LIST", ["default"]) == expected


# --- Settings ------------------------------------------------------------------------------------------


@pytest.fixture
def settings_of(monkeypatch, tmp_path):
    """What settings.py makes of an environment."""

    def read(**environment):
        for name in (
            "DATABASE_URL",
            "REDIS_URL",
            "DEBUG",
            "LLAMAPROXY_NODE",
            "LLAMAPROXY_CONFIG",
            "ALLOWED_HOSTS",
        ):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LLAMAPROXY_DATA_DIR", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "llamaproxy" / "settings.py"))

    return read


def test_llamaproxy_without_an_environment_is_one_process_on_sqlite(settings_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = settings_of()
    database = found["DATABASES"]["default"]
    assert (database["ENGINE"], database["NAME"]) == ("django.db.backends.sqlite3", f"{tmp_path}/db.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert found["CHANNEL_LAYERS"]["default"]["BACKEND"] == "channels.layers.InMemoryChannelLayer"
    assert (found["DEBUG"], found["LLAMAPROXY_PUBLIC_STATUS"], found["LLAMAPROXY_NODE"]) == (
        False,
        True,
        "local",
    )
    assert found["LLAMAPROXY_CONFIG"] == tmp_path / ".llama-proxy-config.json"
    assert "*" not in found["ALLOWED_HOSTS"]


def test_a_redis_becomes_the_channel_layer_that_survives_its_restart(settings_of):
    layer = settings_of(REDIS_URL="redis://gpu-1:6379/0")["CHANNEL_LAYERS"]["default"]
    assert layer["BACKEND"] == "channels_redis.pubsub.RedisPubSubChannelLayer"
    assert layer["CONFIG"]["hosts"] == ["redis://gpu-1:6379/0"]


def test_a_database_url_takes_the_place_of_sqlite(settings_of):
    database = settings_of(DATABASE_URL="postgres://me:p%40ss@db:5433/llama")["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["USER"], database["PASSWORD"], database["HOST"], database["PORT"], database["NAME"]) == (
        "me", "p@ss", "db", 5433, "llama"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "option", "value"),
    [
        ("", "connect_timeout", 5),
        ("?connect_timeout=20", "connect_timeout", 20),
        ("", "tcp_user_timeout", 10_000),
        ("?tcp_user_timeout=0", "tcp_user_timeout", 0),
        ("?connect_timeout=20", "keepalives_idle", 5),
    ],
)
def test_a_database_whose_host_is_gone_is_given_up_soon(query, option, value, settings_of):
    database = settings_of(DATABASE_URL=f"postgres://db/llama{query}")["DATABASES"]["default"]
    assert int(database["OPTIONS"][option]) == value


@pytest.mark.parametrize("url", ["foo://x", "postgres://me:secret@db:port/llama", "db", "postgres//x"])
def test_a_senseless_database_url_is_refused_by_an_example_without_its_password(url, settings_of):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL cannot be understood") as raised:
        settings_of(DATABASE_URL=url)
    assert "Use postgres://user:password@host:5432/name." in str(raised.value)
    assert "secret" not in str(raised.value)


def test_behind_a_tls_proxy_cookies_go_over_tls_only(settings_of):
    found = settings_of(LLAMAPROXY_BEHIND_TLS="1")
    assert (found["SESSION_COOKIE_SECURE"], found["CSRF_COOKIE_SECURE"]) == (True, True)
    assert found["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    assert "SECURE_PROXY_SSL_HEADER" not in settings_of(LLAMAPROXY_BEHIND_TLS="0")


# --- The secret key ------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    return tmp_path / "deep" / "secret-key"


def test_a_secret_key_is_made_once_and_readable_by_its_owner_only(key_file):
    made = secret_key(key_file)
    assert len(made) >= 50
    assert secret_key(key_file) == made
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700
    assert list(key_file.parent.iterdir()) == [key_file], "no draft is left"


def test_the_first_of_two_who_make_a_secret_key_wins(key_file):
    _write_once(key_file, "first")
    _write_once(key_file, "second")
    assert key_file.read_text() == "first"
    assert list(key_file.parent.iterdir()) == [key_file], "no draft is left"


def test_half_a_secret_key_that_a_killed_process_left_is_written_over(key_file):
    key_file.parent.mkdir()
    key_file.with_name("secret-key.part").write_text("half of a key that is longer than any other" * 9)
    assert secret_key(key_file) == key_file.read_text()
    assert len(key_file.read_text()) < 100
    assert list(key_file.parent.iterdir()) == [key_file]


def test_the_environments_secret_key_wins_and_nothing_is_kept(key_file, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "from outside")
    assert secret_key(key_file) == "from outside"
    assert not key_file.exists()


def test_a_secret_key_that_cannot_be_kept_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match="Set SECRET_KEY, or LLAMAPROXY_DATA_DIR"):
        secret_key(tmp_path / "file" / "secret-key")


def test_processes_that_start_at_once_get_the_same_secret_key(key_file):
    code = "import sys; from pathlib import Path; from llamaproxy.env import secret_key; sys.stdin.read(1); print(secret_key(Path(sys.argv[1])))"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, key_file],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        racer.stdin.write("!")
        racer.stdin.flush()
    keys = {racer.communicate(timeout=DEADLINE)[0] for racer in racers}
    assert keys == {f"{key_file.read_text()}\n"}
